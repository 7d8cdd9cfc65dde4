"""The exporter: trace, write aside, verify, then rename."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import onnx

from visiongraft.certificate import Certificate
from visiongraft.errors import ExportError, one_line
from visiongraft.exporter import Exporter
from visiongraft.exporters.float_graph import float_graph
from visiongraft.exporters.metadata import as_texts, backbone_facts, privacy_facts, weight_facts
from visiongraft.exporters.onnx.graph import EXPORTER, OPSET, check_model, trace
from visiongraft.exporters.onnx.metadata import describe, versions
from visiongraft.exporters.onnx.open_classes import prove_other_classes, set_defaults
from visiongraft.exporters.onnx.options import ExportOptions
from visiongraft.exporters.onnx.precision import lower, refuse_unprovable
from visiongraft.exporters.onnx.session import session_run
from visiongraft.exporters.onnx.triton.repository import model_folder, write_repository
from visiongraft.exporters.open_graph import OpenGraph, open_graph
from visiongraft.exporters.options import parse_options, refuse_size
from visiongraft.exporters.runtime.description import (
    CERTIFICATE,
    metadata_sha256,
    read_description,
)
from visiongraft.exporters.runtime.kernels import kernels
from visiongraft.exporters.runtime.onnx_content import certificate_field, content_sha256
from visiongraft.exporters.runtime.onnx_file import MAX_BYTES, read_onnx
from visiongraft.exporters.verification.proof import Findings, verify
from visiongraft.exporters.writing import (
    append,
    at_any_size_if_possible,
    move_into_place,
    written_aside,
)

if TYPE_CHECKING:
    from visiongraft.data.samples import Samples
    from visiongraft.model import TransferModel
    from visiongraft.network import InferenceGraph


class OnnxExporter(Exporter):
    """Writes one ONNX file with preprocessing and final predictions inside."""

    name: ClassVar[str] = EXPORTER
    suffix: ClassVar[str] = ".onnx"

    def export(
        self, model: TransferModel, path: Path, samples: Samples | None, **options: Any
    ) -> Certificate:
        """Export and verify.

        Args:
            model: The trained model.
            path: Where the file goes; the certificate goes beside it, as
                ``<file>.certificate.json``.
            samples: Real images with targets to verify on, or ``None``; a lower precision needs
                some.
            options: Fields of ``ExportOptions``. A network that sees images at their own size
                (``resize="pad"``) and disagrees at sizes other than the traced one is fixed to its
                training size unasked, with a warning in the certificate.

        Returns:
            The certificate, also in the file's metadata.

        Raises:
            ExportError: The file could not be made, disagrees with PyTorch, or costs more than its
                budget; no file is left, and an older one at ``path`` stays as it was.
            ArtifactError: The file is there, but the Triton repository holds another model of its
                name.
            OptionError: An option is unknown, or ``path`` is a folder.
        """
        chosen = parse_options(ExportOptions, EXPORTER, options)
        if chosen.triton is not None:
            model_folder(path, chosen.triton)  # refuses what cannot be one, before the long work
        graph = model.inference_graph(chosen.extra_outputs)
        refuse_size(chosen.size, graph.preprocess.inputs)
        chosen = chosen.for_network(graph.preprocess.config)
        if chosen.input == "float":
            graph = float_graph(graph)
        if chosen.open_classes:
            graph = open_graph(graph)
        refuse_unprovable(chosen, samples)
        with written_aside(path) as temporary:
            draft = _Draft(temporary, model, graph, samples, chosen)
            findings = at_any_size_if_possible(
                draft.prove_exact, graph.preprocess.config, chosen.size
            )
            settings: dict[str, Any] = {}
            if chosen.precision != "fp32":
                lowered, settings = lower(draft, draft.exact)
                findings = replace(lowered, warnings=_merged(findings, lowered))
            certificate = _certificate(path, draft, findings, settings)
            # Appending a field to a message leaves the bytes that were verified as they are.
            text = as_texts({CERTIFICATE: certificate.to_json()})[CERTIFICATE]
            append(temporary, certificate_field(text))
            move_into_place(temporary, path, certificate)
        if chosen.triton is not None:
            write_repository(path, chosen.triton)
        return certificate


@dataclass
class _Draft:
    """A file being written: its parts, and how it is written and verified.

    Attributes:
        exact: The float32 content, once it has been proved.
    """

    file: Path
    model: TransferModel
    graph: InferenceGraph
    samples: Samples | None
    options: ExportOptions
    exact: onnx.ModelProto = field(init=False)

    def write(self, exported: onnx.ModelProto, opset: int = OPSET) -> None:
        """Write other content, and check it as it is on the disk."""
        self.file.write_bytes(b"")
        described = describe(self.model, exported, self.options)
        onnx.helper.set_model_props(exported, as_texts(described))
        if exported.ByteSize() > MAX_BYTES:  # which cannot even be serialized
            raise ExportError(f"the model does not fit into one file of at most {MAX_BYTES} bytes")
        append(self.file, exported.SerializeToString())
        try:
            onnx.checker.check_model(str(self.file), full_check=True)
        except Exception as error:  # the checker's exceptions share no base
            raise ExportError(f"the exported file is not valid ONNX: {one_line(error)}") from error
        inputs, config = self.graph.preprocess.inputs, self.graph.preprocess.config
        resizes = inputs.has_size and not self.graph.takes_prepared
        fixed = self.options.size is not None or not resizes
        check_model(onnx.load(self.file), config if resizes else None, fixed, opset, inputs)

    def prove(self, budget: float | None = None) -> Findings:
        """Compare the content with PyTorch."""
        run, options = session_run(self.file, self.graph), self.options
        return verify(
            run, self.graph, self.samples, options.size, batches=options.batches, budget=budget
        )

    def prove_exact(self, size: tuple[int, int] | None) -> Findings:
        """Write the float32 file for images of a height and width, or of any, and prove it."""
        self.options = replace(self.options, size=size)
        self.exact = trace(self.graph, size)
        if isinstance(self.graph, OpenGraph):
            set_defaults(self.exact, self.graph.values)
        self.write(self.exact)
        found = self.prove()
        if isinstance(self.graph, OpenGraph):
            others = prove_other_classes(self.file, self.graph, size, self.options.batches)
            found = replace(found, comparisons=(*found.comparisons, *others))
        return found


def _merged(*found: Findings) -> tuple[str, ...]:
    """Return the warnings of several proofs, each once."""
    return tuple(dict.fromkeys(warning for findings in found for warning in findings.warnings))


def _certificate(
    path: Path, draft: _Draft, findings: Findings, settings: dict[str, Any]
) -> Certificate:
    exact = draft.options.precision == "fp32"
    described, _ = read_description(draft.file, read_onnx(draft.file).metadata)
    budget = draft.options.budget
    lower: dict[str, Any] = {"tolerance": None, "budget": budget, "kernels": kernels()}
    return findings.certificate(
        path.name,
        OnnxExporter.name,
        draft.graph.task,
        versions(),
        precision=draft.options.precision,
        settings=settings,
        backbone=backbone_facts(draft.model),
        weights=weight_facts(draft.model),
        privacy=privacy_facts(draft.model),
        content_sha256=content_sha256(draft.file),
        metadata_sha256=metadata_sha256(described),
        **({} if exact else lower),
    )

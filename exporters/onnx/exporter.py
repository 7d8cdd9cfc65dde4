"""The exporter: trace, write aside, prove, then move into place."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import onnx

from visiongraft.errors import ExportError, OptionError, VisiongraftError
from visiongraft.exporter import Certificate, Exporter
from visiongraft.exporters.capture import one_line
from visiongraft.exporters.onnx.content import KEY, certificate_field, content_sha256
from visiongraft.exporters.onnx.graph import EXPORTER, OPSET, check_model, trace
from visiongraft.exporters.onnx.metadata import as_properties, backbone_facts, describe, versions
from visiongraft.exporters.onnx.options import ExportOptions, parse_options
from visiongraft.exporters.onnx.precision import lower, refuse_unprovable
from visiongraft.exporters.onnx.variants import FloatGraph
from visiongraft.exporters.onnx.verify import TOLERANCE, Findings, verify
from visiongraft.exporters.onnx_file import MAX_BYTES
from visiongraft.files import write_json

if TYPE_CHECKING:
    from visiongraft.data.samples import Samples
    from visiongraft.model import TransferModel
    from visiongraft.network import InferenceGraph

log = logging.getLogger("visiongraft")


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
            samples: Real pictures with targets to verify on, or ``None``; a lower precision needs
                some.
            options: Fields of ``ExportOptions``. A network that sees pictures at their own size
                (``resize="pad"``) and disagrees at sizes other than the traced one is fixed to its
                training size unasked, with a warning in the certificate.

        Returns:
            The certificate, also in the file's metadata.

        Raises:
            ExportError: The file could not be made, disagrees with PyTorch, or costs more than its
                budget; no file is left, and an older one at ``path`` stays as it was.
            OptionError: An option is unknown, or ``path`` is a folder.
        """
        if path.is_dir():
            raise OptionError(f"{path} is a folder; name a file in it, such as {path / 'x.onnx'}")
        graph = model.inference_graph()
        chosen = parse_options(options).for_network(graph.preprocess.config)
        if chosen.input == "float":
            graph = FloatGraph(graph)
        refuse_unprovable(chosen, samples)
        with _written_aside(path) as temporary:
            draft = _Draft(temporary, model, graph, samples, chosen)
            findings, exact = _prove_exact(draft)
            settings: dict[str, Any] = {}
            if chosen.precision != "fp32":
                lowered, settings = lower(draft, exact)
                findings = replace(lowered, warnings=_merged(findings, lowered))
            certificate = _certificate(path, draft, findings, settings)
            # Appending a field to a message leaves the bytes that were verified as they are.
            _append(temporary, certificate_field(as_properties({KEY: certificate.to_json()})[KEY]))
            os.replace(temporary, path)
        write_json(path.with_name(f"{path.name}.certificate.json"), certificate.to_json())
        return certificate


@dataclass
class _Draft:
    """A file in the making: what it is made of, and how it is written and proved."""

    file: Path
    model: TransferModel
    graph: InferenceGraph
    samples: Samples | None
    options: ExportOptions

    def write(self, exported: onnx.ModelProto, opset: int = OPSET) -> None:
        """Write another content, and check it as it lies on the disk."""
        self.file.write_bytes(b"")
        described = describe(self.model, exported, self.options)
        onnx.helper.set_model_props(exported, as_properties(described))
        if exported.ByteSize() > MAX_BYTES:  # which cannot even be serialised
            raise ExportError(f"one file cannot hold the model; {MAX_BYTES} bytes are the most")
        _append(self.file, exported.SerializeToString())
        try:
            onnx.checker.check_model(str(self.file), full_check=True)
        except Exception as error:  # the checker's exceptions share no base
            raise ExportError(f"the exported file is no valid ONNX: {one_line(error)}") from error
        config = None if isinstance(self.graph, FloatGraph) else self.graph.preprocess.config
        fixed = self.options.size is not None or config is None
        check_model(onnx.load(self.file), config, size_is_fixed=fixed, opset=opset)

    def prove(self, budget: float | None = None) -> Findings:
        """Compare the content with PyTorch."""
        return verify(
            self.file,
            self.graph,
            self.samples,
            self.options.size,
            batches=self.options.batches,
            budget=budget,
        )

    def prove_exact(self) -> tuple[Findings, onnx.ModelProto]:
        """Write the float32 file and prove it."""
        exact = trace(self.graph, self.options.size)
        self.write(exact)
        return self.prove(), exact


@contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    """Give an empty temporary file in the target's folder; it never outlives the block."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            left_over.unlink()  # of an export that was killed
        temporary.touch()
        yield temporary
    except OSError as error:
        raise VisiongraftError(
            f"{path} cannot be written: {error.strerror or error}; free some space or choose "
            "another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _prove_exact(draft: _Draft) -> tuple[Findings, onnx.ModelProto]:
    """Write and prove the float32 file, if need be for pictures of one size."""
    config = draft.graph.preprocess.config
    try:
        return draft.prove_exact()
    except ExportError as error:
        if draft.options.size is not None or config.resize != "pad":
            raise
        draft.options = replace(draft.options, size=config.size)
        findings, exact = draft.prove_exact()
        log.info("no file for pictures of any size: %s", error)  # it may name a picture's file
        height, width = config.size
        warning = (
            f"the input is fixed to {height}x{width} pixels (size= chooses), since no file for "
            "pictures of any size agrees with PyTorch"
        )
        return replace(findings, warnings=(warning, *findings.warnings)), exact


def _merged(*found: Findings) -> tuple[str, ...]:
    """Give the warnings of several proofs, each once."""
    return tuple(dict.fromkeys(warning for findings in found for warning in findings.warnings))


def _append(file: Path, content: bytes) -> None:
    with open(file, "ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _certificate(
    path: Path, draft: _Draft, findings: Findings, settings: dict[str, Any]
) -> Certificate:
    exact = draft.options.precision == "fp32"
    return Certificate(
        file=path.name,
        format=OnnxExporter.name,
        checks=findings.checks,
        tolerance=TOLERANCE if exact else None,
        headline=draft.graph.task.headline,
        metric_torch=findings.metric_torch,
        metric_exported=findings.metric_exported,
        data_sha256=findings.data_sha256,
        versions=versions(),
        warnings=findings.warnings,
        precision=draft.options.precision,
        budget=None if exact else draft.options.budget,
        settings=settings,
        backbone=backbone_facts(draft.model),
        content_sha256=content_sha256(draft.file),
    )

"""The exporter: trace, write aside, verify, then rename."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from visiongraft.certificate import Certificate, Comparison
from visiongraft.class_file import OPEN_INPUTS
from visiongraft.comparison import Arrays
from visiongraft.data.nearest import Size
from visiongraft.errors import ArtifactError, ExportError, one_line
from visiongraft.exporter import Exporter
from visiongraft.exporters.metadata import (
    backbone_facts,
    describe_model,
    file_versions,
    privacy_facts,
    raw_input,
    weight_facts,
)
from visiongraft.exporters.open_graph import OpenGraph, open_graph
from visiongraft.exporters.options import ExporterOptions, parse_options, refuse_size
from visiongraft.exporters.pt2.archive import add_certificate, content_sha256, serialized
from visiongraft.exporters.pt2.program import EXPORTER, open_shapes, outputs_of, trace
from visiongraft.exporters.pt2.runtime import Pt2Predictor
from visiongraft.exporters.runtime.description import metadata_sha256
from visiongraft.exporters.verification.other_classes import prove_with_other_classes
from visiongraft.exporters.verification.proof import Findings, verify
from visiongraft.exporters.writing import (
    append,
    at_any_size_if_possible,
    move_into_place,
    written_aside,
)
from visiongraft.options import check_flag
from visiongraft.verification.engine import RunBatch

if TYPE_CHECKING:
    from visiongraft.data.samples import Samples
    from visiongraft.model import TransferModel


@dataclass(frozen=True)
class Pt2Options(ExporterOptions):
    """The options of the exporter.

    Attributes:
        open_classes: Whether the classes can be exchanged in the file, see ``Task.open_inputs``.
    """

    open_classes: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("open_classes", self.open_classes)


class Pt2Exporter(Exporter):
    """Writes one file of torch.export with preprocessing and final predictions inside."""

    name: ClassVar[str] = EXPORTER
    suffix: ClassVar[str] = ".pt2"

    def export(
        self, model: TransferModel, path: Path, samples: Samples | None, **options: Any
    ) -> Certificate:
        """Export and verify.

        Args:
            model: The trained model.
            path: Where the file goes; the certificate goes beside it, as
                ``<file>.certificate.json``.
            samples: Real images with targets to verify on, or ``None``.
            options: Fields of ``Pt2Options``. A network that sees images at their own size
                (``resize="pad"``) and disagrees at sizes other than the traced one is fixed to its
                training size unasked, with a warning in the certificate.

        Returns:
            The certificate, also among the file's extra files.

        Raises:
            ExportError: The file could not be made, or disagrees with PyTorch; no file is left, and
                an older one at ``path`` stays as it was.
            OptionError: An option is unknown, or ``path`` is a folder.
        """
        chosen = parse_options(Pt2Options, EXPORTER, options)
        graph = model.inference_graph(chosen.extra_outputs)
        if chosen.open_classes:
            graph = open_graph(graph)
        refuse_size(chosen.size, graph.preprocess.inputs)
        versions = file_versions("torch", "torchvision")
        with written_aside(path) as temporary:

            def attempt(size: tuple[int, int] | None) -> Findings:
                program = trace(graph, size)
                inputs, extras = graph.preprocess.inputs, chosen.extra_outputs
                taken = raw_input(inputs, model.backbone_info, size)
                outputs = outputs_of(program, inputs)
                described = describe_model(model, taken, outputs, versions, extras=extras)
                if isinstance(graph, OpenGraph):
                    described[OPEN_INPUTS] = open_shapes(program, list(graph.values))
                temporary.write_bytes(b"")
                append(temporary, serialized(program, described))
                opened = _opened(temporary)
                found = verify(opened.run, graph, samples, size, batches=chosen.batches)
                if not isinstance(graph, OpenGraph):
                    return found
                others = prove_other_classes(opened, graph, size, chosen.batches)
                return replace(found, comparisons=(*found.comparisons, *others))

            findings = at_any_size_if_possible(attempt, graph.preprocess.config, chosen.size)
            certificate = findings.certificate(
                path.name,
                EXPORTER,
                graph.task,
                versions,
                backbone=backbone_facts(model),
                weights=weight_facts(model),
                privacy=privacy_facts(model),
                content_sha256=content_sha256(temporary),
                metadata_sha256=metadata_sha256(_opened(temporary).metadata),
            )
            add_certificate(temporary, certificate.to_json())
            move_into_place(temporary, path, certificate)
        return certificate


def prove_other_classes(
    opened: Pt2Predictor, graph: OpenGraph, size: Size | None, batches: Sequence[int]
) -> list[Comparison]:
    """Compare an opened file with PyTorch with other classes; see ``prove_with_other_classes``."""

    def run_of(other: OpenGraph) -> RunBatch:
        classes = {name: value.numpy() for name, value in other.values.items()}

        def run(images: NDArray[Any]) -> Arrays:
            opened.classes = classes
            return opened.run(images)

        return run

    return prove_with_other_classes(run_of, graph, size, batches)


def _opened(file: Path) -> Pt2Predictor:
    """Open the file as users do."""
    try:
        return Pt2Predictor(file)
    except ArtifactError as error:
        raise ExportError(
            f"the file could not be opened again: {one_line(error.__cause__ or error)}"
        ) from error

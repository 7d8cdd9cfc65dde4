"""The contract of exporters, and the certificate that each exported file carries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from visiongraft.data.samples import Samples
    from visiongraft.model import TransferModel


@dataclass(frozen=True)
class Comparison:
    """One comparison of the exported file with PyTorch.

    Attributes:
        inputs: ``"random"``, ``"real"``, or ``"plain"``: black, white and gray ones.
        batch: Images per call.
        images: Images compared in all.
        sizes: The (height, width) pairs that were tried, in pixels, from the smallest to the
            largest; of very many some.
        difference: Worst difference, relative to the largest absolute reference value.
        mismatches: Decisions that changed.
        worst: Which image differs most, by its position: an exported file must not tell the names
            of the files it was tried on.
        decisions: How many decisions were compared: the values of all integer results.
        near_ties: Images on which PyTorch itself decides otherwise, and as the file does, if their
            values change by at most 0.02 of 255; their decisions do not count as mismatches.
    """

    inputs: str
    batch: int
    images: int
    sizes: tuple[tuple[int, int], ...]
    difference: float
    mismatches: int
    worst: str
    decisions: int = 0
    near_ties: int = 0


@dataclass(frozen=True)
class Certificate:
    """What was tried on an exported file, and what came out.

    Attributes:
        file: Name of the file.
        format: Name of the exporter.
        checks: Every comparison made.
        tolerance: Largest relative difference that is accepted; ``None`` for a lower precision, which
            is held to ``budget`` instead.
        headline: Name of the task's metric.
        metric_torch: The metric in PyTorch on the real images; ``None`` without targets.
        metric_exported: The metric of the exported file on the same images.
        data_sha256: Hash over the shapes and values of the real images that the metric is over,
            in order; ``None`` without any.
        versions: Versions of the libraries that made and checked the file.
        warnings: What a reader must know, such as that no real image was tried.
        precision: What the network computes in, such as ``"fp32"``.
        budget: By how much a lower precision may worsen the metric, in its own unit; ``None`` for
            the full precision, where no decision may change.
        settings: How a lower precision was made, as JSON values.
        backbone: Name, source, weights, license and hash of the backbone's pretrained weights, as
            far as they are known.
        content_sha256: Hash over the bytes of the file without the certificate in it; ``None`` if
            the exporter does not give one.
    """

    file: str
    format: str
    checks: tuple[Comparison, ...]
    tolerance: float | None
    headline: str
    metric_torch: float | None
    metric_exported: float | None
    data_sha256: str | None
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()
    precision: str = "fp32"
    budget: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    backbone: dict[str, str] = field(default_factory=dict)
    content_sha256: str | None = None

    @property
    def difference(self) -> float:
        """Worst relative difference over all checks."""
        return max(check.difference for check in self.checks)

    @property
    def mismatches(self) -> int:
        """Changed decisions over all checks."""
        return sum(check.mismatches for check in self.checks)

    @property
    def near_ties(self) -> int:
        """Near-ties over all checks."""
        return sum(check.near_ties for check in self.checks)

    @property
    def changed(self) -> float | None:
        """Fraction of decisions that changed on real images in batches of one, if there were any."""
        single = [check for check in self.checks if (check.inputs, check.batch) == ("real", 1)]
        decisions = sum(check.decisions for check in single)
        return sum(check.mismatches for check in single) / decisions if decisions else None

    def to_json(self) -> dict[str, Any]:
        """Return all fields and totals as JSON values."""
        totals = ("difference", "mismatches", "near_ties", "changed")
        return {**asdict(self), **{name: getattr(self, name) for name in totals}}


class Exporter(ABC):
    """Writes a trained model in one file format, and proves that it agrees with PyTorch.

    Attributes:
        name: How users ask for the exporter.
        suffix: File suffix, with the dot.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def export(
        self, model: TransferModel, path: Path, samples: Samples | None, **options: Any
    ) -> Certificate:
        """Export and verify.

        Args:
            model: The trained model; ``model.inference_graph()`` is what to trace.
            path: Where the file goes; it appears there only after every check has passed.
            samples: Real images with targets to verify on, or ``None``.
            options: The exporter's own.

        Returns:
            The certificate, also written beside the file.

        Raises:
            ExportError: The file could not be made or disagrees with PyTorch; no file is left.
        """

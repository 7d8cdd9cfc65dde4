"""The certificate that each exported file carries: what was compared, and the results."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from visiongraft.html import html_table


@dataclass(frozen=True)
class Comparison:
    """One comparison of an exported file with its reference.

    Attributes:
        inputs: ``"random"``, ``"real"``, or ``"plain"`` images; plain ones are black, white and
            gray. ``"other classes"``: random images, with other classes than the file's own.
        batch: Images per call.
        images: Number of images compared.
        sizes: The (height, width) pairs that were tried, in pixels, from the smallest to the
            largest; a selection if there are very many.
        difference: Largest difference, relative to the largest absolute reference value.
        mismatches: Number of changed predictions.
        worst_image: The image that differs most, by its position: an exported file must not
            reveal the names of the files it was tried on.
        predictions: Number of predictions compared: the values of all integer results.
        near_ties: Images whose prediction PyTorch itself changes, to that of the file, if their
            values change by at most 0.02 of 255. They do not count as mismatches.
    """

    inputs: str
    batch: int
    images: int
    sizes: tuple[tuple[int, int], ...]
    difference: float
    mismatches: int
    worst_image: str
    predictions: int = 0
    near_ties: int = 0


@dataclass(frozen=True)
class CertifiedImage:
    """The results of an exported file for one image that any machine can make.

    Attributes:
        kind: Kind of the image.
        seed: Its seed.
        height: Its height in pixels.
        width: Its width in pixels.
        batch: Number of the batch that it belongs to, from 0; images of one batch follow each other.
        results: By name of the result: its shape, the accepted difference, and the numbers that stand
            for it, ``~`` for those that rounding can change; parted by spaces.
    """

    kind: str
    seed: int
    height: int
    width: int
    batch: int
    results: dict[str, str]


@dataclass(frozen=True)
class Certificate:
    """What was checked on an exported file, and the results.

    Attributes:
        file: Name of the file.
        format: Name of the exporter.
        comparisons: Every comparison made.
        tolerance: Largest relative difference that is accepted; ``None`` for a lower precision,
            for which ``budget`` counts instead.
        headline: Name of the task's main metric.
        metric_torch: The metric in PyTorch on the real images; ``None`` without targets.
        metric_exported: The metric of the exported file on the same images.
        data_sha256: Hash of the shapes and values of the real images behind the metric, in order;
            ``None`` without any.
        versions: Versions of the libraries that made and checked the file.
        warnings: What a reader must know, such as that no real image was tried.
        precision: Precision of the network, such as ``"fp32"``.
        budget: How much worse a lower precision may make the metric, in the metric's own unit;
            ``None`` for full precision, where no prediction may change.
        settings: How a lower precision was made, as JSON values.
        backbone: Name, source, weights, license and hash of the backbone's pretrained weights, as
            far as they are known.
        weights: By part of the network, ``backbone`` and ``head``, the number of its tensors and what they began
            with: source, weights, license, hash.
        privacy: What the training guarantees to each training image: epsilon, delta and how they came
            about; empty for a run without differential privacy.
        content_sha256: Hash of the bytes of the file without the certificate in it; ``None`` if
            the exporter does not compute one.
        metadata_sha256: Hash of all other metadata of the file, as JSON; ``None`` likewise.
        certified: Results of the file itself for seeded images.
        kernels: The runtime's version and the processor's instructions, which decide how ``certified`` of
            a lower precision was rounded; ``None`` if they are not known.
    """

    file: str
    format: str
    comparisons: tuple[Comparison, ...]
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
    weights: dict[str, dict[str, Any]] = field(default_factory=dict)
    privacy: dict[str, Any] = field(default_factory=dict)
    content_sha256: str | None = None
    metadata_sha256: str | None = None
    certified: tuple[CertifiedImage, ...] = ()
    kernels: str | None = None

    @property
    def difference(self) -> float:
        """Largest relative difference of all comparisons."""
        return max(comparison.difference for comparison in self.comparisons)

    @property
    def mismatches(self) -> int:
        """Changed predictions in all comparisons."""
        return sum(comparison.mismatches for comparison in self.comparisons)

    @property
    def near_ties(self) -> int:
        """Images, in all comparisons, that are near-ties in PyTorch itself."""
        return sum(comparison.near_ties for comparison in self.comparisons)

    @property
    def changed_fraction(self) -> float | None:
        """Fraction of predictions that changed on single real images; ``None`` without any."""
        single = [c for c in self.comparisons if (c.inputs, c.batch) == ("real", 1)]
        predictions = sum(c.predictions for c in single)
        return sum(c.mismatches for c in single) / predictions if predictions else None

    def _repr_html_(self) -> str:
        rows = [(c.inputs, c.batch, c.images, c.difference, c.mismatches) for c in self.comparisons]
        columns = ["inputs", "batch", "images", "difference", "mismatches"]
        metric = (
            f"; {self.headline} {self.metric_torch:.4f} in PyTorch, {self.metric_exported:.4f} in the file"
            if self.metric_torch is not None and self.metric_exported is not None
            else ""
        )
        notes = html_table(["note"], [[note] for note in self.warnings]) if self.warnings else ""
        return html_table(columns, rows, f"{self.file} ({self.precision}){metric}") + notes

    def to_json(self) -> dict[str, Any]:
        """Return all fields, and the totals computed from them, as JSON values."""
        totals = ("difference", "mismatches", "near_ties", "changed_fraction")
        return {**asdict(self), **{name: getattr(self, name) for name in totals}}

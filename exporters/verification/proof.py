"""Prove that an exported file computes what PyTorch computes.

A file is known here by a function alone: raw images in, results out, both numpy arrays. So the
same proof serves every exporter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from visiongraft.backbone import license_warning
from visiongraft.certificate import Certificate, CertifiedImage, Comparison
from visiongraft.data.nearest import Size
from visiongraft.data.samples import Samples
from visiongraft.errors import ExportError, name_some
from visiongraft.exporters.verification.certified_results import certified_results
from visiongraft.exporters.verification.metric import HeadlineMeter, worsening
from visiongraft.exporters.verification.seeded_images import MANY, seeded_images
from visiongraft.exporters.verification.trial_images import (
    BATCHES,
    MAX_SINGLE,
    PLAIN,
    ImageHash,
    RealImages,
)
from visiongraft.exporters.verification.trials import Trials
from visiongraft.network import InferenceGraph
from visiongraft.system.progress import track
from visiongraft.task import Task
from visiongraft.verification.engine import TOLERANCE, Pair, RunBatch, RunningComparison, run_side
from visiongraft.verification.pytorch import TorchReference

MANY_CHANGED = 10  # times the budget: a fraction of changed predictions that is worth a warning
MAX_IN_BATCHES = 64

_NO_IMAGES = "no real image was tried; export with data to compare on what the model will see"
_NOT_IN_BUDGET = "the budget limits what the metric loses, not how far extra outputs are off: {}"
_BROUGHT_BACK = (
    "for the metric, maps of both sides were resized to the original image size by nearest neighbor"
)


@dataclass(frozen=True)
class Findings:
    """Results of a proof.

    Attributes:
        comparisons: Every comparison; each one passed.
        metric_torch: The task's headline in PyTorch on the real images, or ``None``.
        metric_exported: The same for the file.
        data_sha256: Hash of the sizes and values of those images, in order, or ``None``.
        warnings: One line each on what was left out.
        certified: Results for seeded images, for the certificate.
    """

    comparisons: tuple[Comparison, ...]
    metric_torch: float | None
    metric_exported: float | None
    data_sha256: str | None
    warnings: tuple[str, ...]
    certified: tuple[CertifiedImage, ...] = ()

    def certificate(
        self, file: str, format: str, task: Task, versions: Mapping[str, str], **more: Any
    ) -> Certificate:
        """Make the certificate of the file.

        Args:
            file: Its name.
            format: Name of the exporter.
            task: The task, whose headline was measured.
            versions: Versions of the libraries that made and checked the file.
            more: Further fields of ``Certificate``, or other values of those that are set here.

        Returns:
            The certificate.
        """
        origin: Mapping[str, Any] = more.get("backbone") or {}
        fields = {
            "tolerance": TOLERANCE,
            "headline": task.headline,
            "versions": dict(versions),
            "warnings": (*self.warnings, *license_warning(origin.get("name", ""), origin)),
        }
        return Certificate(file=file, format=format, **{**vars(self), **fields, **more})


class BudgetError(ExportError):
    """A lower precision costs more than its budget allows."""


def verify(
    run: RunBatch,
    graph: InferenceGraph,
    samples: Samples | None,
    size: Size | None = None,
    *,
    batches: Sequence[int] = BATCHES,
    budget: float | None = None,
    certify: bool = True,
) -> Findings:
    """Run a file next to PyTorch, and compare the results by the task's comparison.

    Up to 64 real images run in batches of images that follow each other in the data; where their
    sizes differ, the central part of each that has the smallest height and width among them. Random
    images of several sizes run one by one and in batches, and so do black, white and gray ones.
    Then up to 1000 real images run one by one at their own sizes, and the task's metric is
    computed for both sides. If there are more real images than that, evenly spaced ones are taken.

    Without a budget no prediction may change, nor any number by more than ``TOLERANCE``. An image
    whose prediction changes is a near-tie, and counted as such, if PyTorch itself computes just
    the file's results once the image's values change very slightly; at most three images, or a
    tenth of a comparison's, may be near-ties. With a budget all numbers must be finite, and the
    metric may not be worse by more than the budget; the number of changed predictions is reported,
    not judged, since a box that moved counts as one.

    Args:
        run: Returns the results of the file, as it is on the disk, for raw images, uint8
            (N, H, W, C): numpy arrays by name. Any exception it raises is a failure of the proof.
        graph: The graph that the file was made from, in evaluation mode, float32, on the CPU.
        samples: Real images with targets, or ``None``; required with a budget.
        size: Height and width of a file whose input size is fixed; all images are then resized
            to it first.
        batches: Sizes of the batches.
        budget: How much worse a lower precision may make the headline; ``None`` for full precision.
        certify: Whether to record results for seeded images, which any machine can compare.

    Returns:
        The results.

    Raises:
        BudgetError: The file costs more than the budget.
        ExportError: An output differs by more than ``TOLERANCE`` or a prediction changed; the
            message names the worst image. Or the file does not run.
        DataError: None of the real images can be read.
    """
    config, task = graph.preprocess.config, graph.task
    tolerance = TOLERANCE if budget is None else None
    extras = tuple(graph.extra_outputs)
    compare = task.export_support().compare
    inputs = graph.preprocess.inputs
    pair = Pair(TorchReference(graph), run, compare, tolerance, extras, inputs)
    trials = Trials(pair, config.size, len(config.mean), size)
    real = None
    if samples is not None and len(samples):
        real = RealImages(samples, len(config.mean), size, inputs)
    planned: list[Callable[[], Comparison]] = []
    if real is not None:
        planned += [partial(trials.in_batches, real, batch, MAX_IN_BATCHES) for batch in batches]
    planned += [partial(trials.on_random, batch) for batch in (1, *batches)]
    planned += [partial(trials.on_plain, batch) for batch in (1, len(PLAIN))]
    comparisons = [compared() for compared in track(planned, "proof: comparisons", len(planned))]
    if real is None:
        certified = _certified(pair, graph, size, batches) if certify else ()
        return Findings(tuple(comparisons), None, None, None, (_NO_IMAGES,), certified)
    map_size = (size or config.size) if graph.takes_prepared else None
    meters = (
        HeadlineMeter(task, real.samples, map_size, extras),
        HeadlineMeter(task, real.samples, map_size, extras),
    )
    single, sha256 = _compare_single(pair, real, meters)
    metric_torch, metric_exported = (meter.value() for meter in meters)
    warnings = real.warnings()
    if task.full_resolution_outputs and (map_size or size):
        warnings += (_BROUGHT_BACK,)
    if budget is not None:
        _check_budget(task, budget, single.images, metric_torch, metric_exported)
        warnings += _many_changed(budget, single)
        warnings += (_NOT_IN_BUDGET.format(name_some(extras)),) if extras else ()
    certified = _certified(pair, graph, size, batches) if certify else ()
    found = (*comparisons, single)
    return Findings(found, metric_torch, metric_exported, sha256, warnings, certified)


def _certified(
    pair: Pair, graph: InferenceGraph, size: Size | None, batches: Sequence[int]
) -> tuple[CertifiedImage, ...]:
    """Record the file's results for seeded images."""
    config = graph.preprocess.config
    largest = max(batches, default=1)
    images = seeded_images(
        config.size,
        size,
        largest=MANY if largest >= BATCHES[-1] else largest,
        whole=config.resize == "pad" or bool(graph.task.full_resolution_outputs),
    )
    reference = TorchReference(graph) if pair.tolerance is not None else None
    run = partial(run_side, "the exported file", pair.candidate, inputs=pair.inputs)
    return certified_results(run, images, len(config.mean), reference, pair.inputs)


def _compare_single(
    pair: Pair, real: RealImages, meters: tuple[HeadlineMeter, HeadlineMeter]
) -> tuple[Comparison, str]:
    """Compare on single real images, and measure both sides."""
    running, digest = RunningComparison(pair, "real", 1), ImageHash()
    chosen = real.indices(MAX_SINGLE)
    for image in track(real.load(chosen), "proof: images one by one", len(chosen)):
        digest.add(image.original)
        results = running.add(image.pixels[None], [image.position], [image.name])
        for meter, decoded in zip(meters, results, strict=True):
            meter.add(image, decoded)
    return running.result(), digest.hexdigest()


def _check_budget(
    task: Task, budget: float, images: int, reference: float | None, candidate: float | None
) -> None:
    """Refuse a file that costs more than the budget."""
    if reference is None or candidate is None:
        raise BudgetError(
            f"{task.headline} is undefined on these {images} images, so that no budget can be "
            "checked; pass others with data="
        )
    lost = worsening(task, reference, candidate)
    if lost > budget + 1e-9:
        raise BudgetError(
            f"{task.headline} is {candidate:.4f} instead of {reference:.4f} on {images} "
            f"images, worse by {lost:.4f}; the budget is {budget}"
        )


def _many_changed(budget: float, single: Comparison) -> tuple[str, ...]:
    fraction = single.mismatches / max(1, single.predictions)
    if fraction <= MANY_CHANGED * budget:
        return ()
    return (f"{fraction:.0%} of the predictions on real images changed, by the task's comparison",)

"""Prove that an exported file gives what PyTorch gives, decision by decision.

A file is known here by a function alone: raw images in, results out, both numpy arrays. So the
same proof serves every exporter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visiongraft.data.nearest import Size
from visiongraft.data.samples import Image, Samples
from visiongraft.errors import ExportError
from visiongraft.exporter import Certificate, Comparison
from visiongraft.exporters.verification.comparing import (
    TOLERANCE,
    Pair,
    Reference,
    Run,
    Tally,
    equal_but_for_ties,
)
from visiongraft.exporters.verification.images import (
    BATCHES,
    MAX_SINGLE,
    PLAIN,
    ImageHash,
    RealImages,
    plain_images,
    random_images,
    sizes_around,
    stack_common,
)
from visiongraft.exporters.verification.originals import for_targets
from visiongraft.network import InferenceGraph
from visiongraft.task import Metrics, Task

MANY_CHANGED = 10  # times the budget: a share of changed decisions that is worth a warning
MAX_IN_BATCHES = 64


@dataclass(frozen=True)
class Findings:
    """What the comparisons showed.

    Attributes:
        checks: Every comparison; each one passed.
        metric_torch: The task's headline in PyTorch on the real images, or ``None``.
        metric_exported: The same for the file.
        data_sha256: Hash over sizes and values of those images, in order, or ``None``.
        warnings: One line each on what was left out.
    """

    checks: tuple[Comparison, ...]
    metric_torch: float | None
    metric_exported: float | None
    data_sha256: str | None
    warnings: tuple[str, ...]

    def certificate(
        self, file: str, format: str, task: Task, versions: Mapping[str, str], **more: Any
    ) -> Certificate:
        """Make the certificate of the file.

        Args:
            file: Its name.
            format: Name of the exporter.
            task: The task, whose headline was measured.
            versions: Of the libraries that made and checked the file.
            more: Further fields of ``Certificate``, or other values of those that are set here.

        Returns:
            The certificate.
        """
        found: dict[str, Any] = {
            "file": file,
            "format": format,
            "checks": self.checks,
            "tolerance": TOLERANCE,
            "headline": task.headline,
            "metric_torch": self.metric_torch,
            "metric_exported": self.metric_exported,
            "data_sha256": self.data_sha256,
            "versions": dict(versions),
            "warnings": self.warnings,
        }
        return Certificate(**found | more)


class BudgetError(ExportError):
    """A lower precision costs more than its budget allows."""


def verify(
    run: Run,
    graph: InferenceGraph,
    samples: Samples | None,
    size: Size | None = None,
    *,
    batches: Sequence[int] = BATCHES,
    budget: float | None = None,
    reference: Reference | None = None,
    bare: Size | None = None,
) -> Findings:
    """Run a file next to PyTorch, and compare through the task.

    Up to 64 real images go in batches: images that follow each other in the data; where their
    sizes differ, the central part of each that has the smallest height and width among them. Random
    images of several sizes go one by one and in batches, and so do black, white and gray ones.
    Then up to 1000 real images go one by one at their own sizes, and the task's metric is
    computed for both sides. If there are more real images than that, evenly spaced ones are taken.

    Without a budget no decision may change, nor any number by more than ``TOLERANCE``. An image
    where one does is undecided, and counted as such, if PyTorch itself says just what the file says
    as soon as the image's values change by next to nothing; three images, or a tenth of a
    check's, may be so. With a budget
    all numbers must be finite, and the metric may not be worse by more than the budget; how many
    decisions changed is told, not judged, since to ``Task.compare`` a box that moved is one.

    Args:
        run: Gives the results of the file, as it lies on the disk, for raw images, uint8
            (N, H, W, C): numpy arrays by name. What it raises is a breach.
        graph: What the file was made of, in evaluation mode, float32, on the CPU.
        samples: Real images with targets, or ``None``; a budget needs some.
        size: Height and width of a file whose input size is fixed; all images are then resized
            to it first.
        batches: Sizes of the batches.
        budget: By how much a lower precision may worsen the headline; ``None`` for full precision.
        reference: Gives PyTorch's results for raw images; those of ``graph`` if ``None``.
        bare: Height and width of the network's input where the file is the bare network, which
            gives maps at that size.

    Returns:
        What was found.

    Raises:
        BudgetError: The file costs more than the budget.
        ExportError: An output differs by more than ``TOLERANCE`` or a decision changed; the message
            names the worst image. Or the file does not run.
        DataError: None of the real images can be read.
    """
    pair = Pair(run, graph, reference, exact=budget is None)
    config = graph.preprocess.config
    checks: list[Comparison] = []
    real = (
        None if samples is None or not len(samples) else RealImages(samples, len(config.mean), size)
    )
    if real is not None:
        checks += [_compare_batches(pair, real, batch) for batch in batches]
    checks += [_compare_random(pair, size, batch) for batch in (1, *batches)]
    checks += [_compare_plain(pair, size or config.size, batch) for batch in (1, len(PLAIN))]
    if real is None:
        return Findings(tuple(checks), None, None, None, (_NO_IMAGES,))
    single, metric_torch, metric_exported, sha256 = _compare_single(pair, real, bare)
    checks.append(single)
    warnings = real.warnings()
    if pair.task.full_resolution_outputs and (bare or size):
        warnings += (_BROUGHT_BACK,)
    if budget is not None:
        _hold(pair.task, budget, single, metric_torch, metric_exported)
        warnings += _many_changed(budget, single)
    return Findings(tuple(checks), metric_torch, metric_exported, sha256, warnings)


def worsening(task: Task, reference: float, candidate: float) -> float:
    """Give by how much a metric is worse than a reference; below 0 if it is better."""
    return reference - candidate if task.better == "higher" else candidate - reference


def headline_of(task: Task, metrics: Metrics) -> float | None:
    """Give the task's headline, or ``None`` where it is over nothing; JSON has no word for that."""
    value = metrics.compute()[task.headline]
    return float(value) if value is not None and math.isfinite(value) else None


def _hold(
    task: Task, budget: float, single: Comparison, reference: float | None, candidate: float | None
) -> None:
    """Refuse what costs more than the budget."""
    if reference is None or candidate is None:
        raise BudgetError(
            f"{task.headline} cannot be measured on these {single.images} images, so that no "
            "budget can be held to; give others with data="
        )
    lost = worsening(task, reference, candidate)
    if lost > budget + 1e-9:
        raise BudgetError(
            f"{task.headline} is {candidate:.4f} instead of {reference:.4f} on {single.images} "
            f"images, worse by {lost:.4f}; budget={budget} is accepted"
        )


def _many_changed(budget: float, single: Comparison) -> tuple[str, ...]:
    fraction = single.mismatches / max(1, single.decisions)
    if fraction <= MANY_CHANGED * budget:
        return ()
    return (f"{fraction:.0%} of the decisions on real images changed, by Task.compare",)


_NO_IMAGES = "no real image was tried; export with data to compare on what the model will see"
_BROUGHT_BACK = (
    "for the metric, maps of both sides were brought to the images' own size by the nearest pixel"
)


def _compare_batches(pair: Pair, real: RealImages, batch: int) -> Comparison:
    tally = Tally(pair, "real", batch)
    group: list[tuple[int, Image]] = []
    first: list[tuple[int, Image]] = []

    def run() -> None:
        images = stack_common([image for _, image in group])
        places = [_place(index) for index, _ in group]
        names = [real.samples.name(index) for index, _ in group]
        tally.add(images, pair.run(images), places, names)
        group.clear()

    for index, _, image in real.load(real.indices(MAX_IN_BATCHES)):
        tally.images += 1
        group.append((index, image))
        if len(first) < batch:
            first.append((index, image))
        if len(group) == batch:
            run()
    if group:  # filled up with the first ones, so that every batch has the same length
        group += (first * batch)[: batch - len(group)]
        run()
    return tally.result()


def _compare_single(
    pair: Pair, real: RealImages, bare: Size | None
) -> tuple[Comparison, float | None, float | None, str]:
    tally = Tally(pair, "real", 1)
    metrics = pair.task.build_metrics(), pair.task.build_metrics()
    digest = ImageHash()
    for index, original, image in real.load(real.indices(MAX_SINGLE)):
        tally.images += 1
        digest.add(original)
        results = pair.run(image[None])
        tally.add(image[None], results, [_place(index)], [real.samples.name(index)])
        for metric, decoded in zip(metrics, results, strict=True):
            shown = for_targets(pair.task, decoded, bare, image.shape[:2], original.shape[:2])
            metric.update(shown, pair.task.collate([real.samples.target(index)]))
    check = tally.result()
    torch_value, exported_value = (headline_of(pair.task, m) for m in metrics)
    return check, torch_value, exported_value, digest.hexdigest()


def _compare_random(pair: Pair, size: tuple[int, int] | None, batch: int) -> Comparison:
    tally = Tally(pair, "random", batch)
    config = pair.graph.preprocess.config
    random = np.random.default_rng(batch)
    sizes = [size] if size else sizes_around(*config.size)[: 4 if batch <= BATCHES[0] else 2]
    for height, width in sizes:
        images = random_images(random, batch, height, width, len(config.mean))
        names = [f"random image {i + 1} of {batch}" for i in range(batch)]
        tally.images += batch
        tally.add(images, pair.run(images), names, names)
    return tally.result()


def _compare_plain(pair: Pair, size: tuple[int, int], batch: int) -> Comparison:
    """Try images without content, where a division by nothing shows."""
    images = plain_images(*size, len(pair.graph.preprocess.config.mean))
    names = [f"a {name} image" for name in PLAIN]
    tally = Tally(pair, "plain", batch, images=len(images))
    for start in range(0, len(images), batch):
        some = slice(start, start + batch)
        reference, candidate = pair.run(images[some])
        if pair.exact and equal_but_for_ties(reference, candidate):
            candidate = reference
        tally.add(images[some], (reference, candidate), names[some], names[some])
    return tally.result()


def _place(index: int) -> str:
    return f"image {index}"

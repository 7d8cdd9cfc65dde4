"""Prove that an ONNX file gives what PyTorch gives, decision by decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.comparison import Arrays, Disagreement
from visiongraft.data.samples import Image, Samples
from visiongraft.errors import ExportError
from visiongraft.exporter import Check
from visiongraft.exporters.capture import one_line
from visiongraft.exporters.onnx.options import MIXED_BATCH
from visiongraft.exporters.onnx.pictures import (
    MAX_SINGLE,
    PLAIN,
    PictureHash,
    RealPictures,
    plain_pictures,
    random_pictures,
    sizes_around,
    stack_common,
)
from visiongraft.exporters.onnx.variants import FloatGraph, feed
from visiongraft.exporters.originals import for_targets
from visiongraft.nearest import Size
from visiongraft.network import InferenceGraph
from visiongraft.task import Metrics, Task
from visiongraft.undecided import MOST, settle

TOLERANCE = 1e-4  # relative to the largest reference value; float32 kernels differ by 1e-6 to 1e-5
MANY_CHANGED = 10  # times the budget: a share of changed decisions that is worth a warning
MAX_IN_BATCHES = 64
BATCHES = (3, 8)
UNDECIDED_SHARE = 10  # one in so many pictures of a check may be undecided, or ``MOST``
_SIZES_NAMED = 20


@dataclass(frozen=True)
class Findings:
    """What the comparisons showed.

    Attributes:
        checks: Every comparison; each one passed.
        metric_torch: The task's headline in PyTorch on the real pictures, or ``None``.
        metric_exported: The same for the file.
        data_sha256: Hash over sizes and values of those pictures, in order, or ``None``.
        warnings: One line each on what was left out.
    """

    checks: tuple[Check, ...]
    metric_torch: float | None
    metric_exported: float | None
    data_sha256: str | None
    warnings: tuple[str, ...]


class BudgetError(ExportError):
    """A lower precision costs more than its budget allows."""


def verify(
    file: Path,
    graph: InferenceGraph,
    samples: Samples | None,
    size: tuple[int, int] | None = None,
    *,
    batches: Sequence[int] = BATCHES,
    budget: float | None = None,
) -> Findings:
    """Run a file in onnxruntime on the CPU, next to PyTorch, and compare through the task.

    Up to 64 real pictures go in batches: pictures that follow each other in the data; where their
    sizes differ, the central part of each that has the smallest height and width among them. Random
    pictures of several sizes go one by one and in batches, and so do black, white and grey ones.
    Then up to 1000 real pictures go one by one at their own sizes, and the task's metric is
    computed for both sides. If there are more real pictures than that, evenly spaced ones are taken.

    Without a budget no decision may change, nor any number by more than ``TOLERANCE``. A picture
    where one does is undecided, and counted as such, if PyTorch itself says just what the file says
    as soon as the picture's values change by next to nothing; three pictures, or a tenth of a
    check's, may be so. With a budget
    all numbers must be finite, and the metric may not be worse by more than the budget; how many
    decisions changed is told, not judged, since to ``Task.compare`` a box that moved is one.

    Args:
        file: The ONNX file.
        graph: The reference, in evaluation mode, float32, on the CPU.
        samples: Real pictures with targets, or ``None``; a budget needs some.
        size: Height and width of a file whose input size is fixed; all pictures are then resized
            to it first.
        batches: Sizes of the batches.
        budget: By how much a lower precision may worsen the headline; ``None`` for full precision.

    Returns:
        What was found.

    Raises:
        BudgetError: The file costs more than the budget.
        ExportError: An output differs by more than ``TOLERANCE`` or a decision changed; the message
            names the worst picture. Or the file does not run.
        DataError: None of the real pictures can be read.
    """
    pair = _Pair(file, graph, exact=budget is None)
    config = graph.preprocess.config
    checks: list[Check] = []
    real = (
        None
        if samples is None or not len(samples)
        else RealPictures(samples, len(config.mean), size)
    )
    if real is not None:
        checks += [_compare_batches(pair, real, batch) for batch in batches]
    checks += [_compare_random(pair, size, batch) for batch in (1, *batches)]
    checks += [_compare_plain(pair, size or config.size, batch) for batch in (1, len(PLAIN))]
    if real is None:
        return Findings(tuple(checks), None, None, None, (_NO_PICTURES,))
    bare = bare_size(graph, size)
    single, metric_torch, metric_exported, sha256 = _compare_single(pair, real, bare)
    checks.append(single)
    warnings = real.warnings()
    if graph.task.at_picture_size and (bare or size):
        warnings += (_BROUGHT_BACK,)
    if budget is not None:
        _hold(pair.task, budget, single, metric_torch, metric_exported)
        warnings += _many_changed(budget, single)
    return Findings(tuple(checks), metric_torch, metric_exported, sha256, warnings)


def bare_size(graph: InferenceGraph, size: Size | None) -> Size | None:
    """Give height and width of the network's input where the file is the bare network.

    Args:
        graph: The graph that the file is made of.
        size: Fixed size of its pictures.

    Returns:
        The size at which its maps come; ``None`` for a file that takes raw pictures.
    """
    return (size or graph.preprocess.config.size) if isinstance(graph, FloatGraph) else None


def worsening(task: Task, reference: float, candidate: float) -> float:
    """Give by how much a metric is worse than a reference; below 0 if it is better."""
    return reference - candidate if task.better == "higher" else candidate - reference


def headline_of(task: Task, metrics: Metrics) -> float | None:
    """Give the task's headline, or ``None`` where it is over nothing; JSON has no word for that."""
    value = metrics.compute()[task.headline]
    return float(value) if value is not None and math.isfinite(value) else None


def _hold(
    task: Task, budget: float, single: Check, reference: float | None, candidate: float | None
) -> None:
    """Refuse what costs more than the budget."""
    if reference is None or candidate is None:
        raise BudgetError(
            f"{task.headline} cannot be measured on these {single.pictures} pictures, so that no "
            "budget can be held to; give others with data="
        )
    lost = worsening(task, reference, candidate)
    if lost > budget + 1e-9:
        raise BudgetError(
            f"{task.headline} is {candidate:.4f} instead of {reference:.4f} on {single.pictures} "
            f"pictures, worse by {lost:.4f}; budget={budget} is accepted"
        )


def _many_changed(budget: float, single: Check) -> tuple[str, ...]:
    share = single.flips / max(1, single.decisions)
    if share <= MANY_CHANGED * budget:
        return ()
    return (f"{share:.0%} of the decisions on real pictures changed, by Task.compare",)


_NO_PICTURES = "no real picture was tried; export with data to compare on what the model will see"
_BROUGHT_BACK = (
    "for the metric, maps of both sides were brought to the pictures' own size by the nearest pixel"
)


class _Pair:
    """The reference and the file under test."""

    def __init__(self, file: Path, graph: InferenceGraph, exact: bool) -> None:
        self.graph = graph
        self.exact = exact
        self.task: Task = graph.task
        try:
            self.session = onnxruntime.InferenceSession(
                str(file), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ExportError(f"onnxruntime cannot load the file: {one_line(error)}") from error
        self.inputs = {entry.name for entry in self.session.get_inputs()}
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, images: NDArray[np.uint8]) -> tuple[Arrays, Arrays]:
        """Give PyTorch's and the file's results for uint8 (N, H, W, C)."""
        try:
            side = "PyTorch"
            inputs = feed(self.graph, torch.tensor(images))  # decoded pictures are read-only
            reference = self._decode(inputs)
            side = "the exported file"
            arrays = {name: x.numpy() for name, x in inputs.items() if name in self.inputs}
            values = self.session.run(None, arrays)
        except Exception as error:  # neither's exceptions share a base
            batch, height, width, _ = images.shape
            raise ExportError(
                f"{side} fails on {batch} pictures of {height}x{width} pixels: {one_line(error)}"
            ) from error
        return reference, dict(zip(self.names, values, strict=True))

    def compare(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        """Judge one batch; a difference that is no number is infinite."""
        found = self.task.compare(reference, candidate)
        return replace(found, difference=math.inf) if math.isnan(found.difference) else found

    def settle(
        self, images: NDArray[np.uint8], results: tuple[Arrays, Arrays], most: int
    ) -> tuple[Arrays, int]:
        """Take over other decisions of PyTorch for pictures that it leaves undecided."""

        def again(some: Tensor) -> Arrays:
            return self._decode(feed(self.graph, some))

        return settle(self.graph, again, torch.tensor(images), results, TOLERANCE, most)

    def _decode(self, inputs: dict[str, Tensor]) -> Arrays:
        with torch.inference_mode():
            decoded = self.graph(*inputs.values())
        return {name: tensor.numpy() for name, tensor in decoded.items()}


@dataclass
class _Tally:
    """Adds up one check."""

    pair: _Pair
    inputs: str
    batch: int
    pictures: int = 0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    difference: float = 0.0
    flips: int = 0
    decisions: int = 0
    undecided: int = 0
    worst: tuple[float, float] = (-1.0, -1.0)
    place: str = ""
    name: str = ""

    def add(
        self,
        images: NDArray[np.uint8],
        results: tuple[Arrays, Arrays],
        places: Sequence[str],
        names: Sequence[str],
    ) -> None:
        """Take one batch in; ``places`` go into the certificate, ``names`` into messages."""
        reference, candidate = results
        compare = self.pair.compare
        found = compare(reference, candidate)
        if found.flips and self.pair.exact and math.isfinite(found.difference):
            most = max(MOST, self.pictures // UNDECIDED_SHARE) - self.undecided
            reference, undecided = self.pair.settle(images, results, most)
            self.undecided += undecided
            found = compare(reference, candidate)
        size = (images.shape[1], images.shape[2])
        self.sizes.add(size)
        self.difference = max(self.difference, found.difference)
        self.flips += found.flips
        self.decisions += sum(v.size for v in reference.values() if v.dtype.kind in "iub")
        if (found.flips, found.difference) <= self.worst:
            return
        self.worst = (found.flips, found.difference)
        each = [compare(_one(reference, i), _one(candidate, i)) for i in range(len(names))]
        index = max(range(len(names)), key=lambda i: (each[i].flips, each[i].difference))
        self.place, self.name = places[index], f"{names[index]} ({size[0]}x{size[1]})"

    def result(self) -> Check:
        """Give the check, if it passed."""
        differs = self.difference > TOLERANCE or self.flips > 0
        if differs if self.pair.exact else math.isinf(self.difference):
            raise ExportError(
                f"the exported file disagrees with PyTorch in batches of {self.batch}, most on "
                f"{self.name}: {self._figures()}"
            )
        by_area = sorted(self.sizes, key=lambda s: (s[0] * s[1], s))
        spaced = np.linspace(0, len(by_area) - 1, min(len(by_area), _SIZES_NAMED)).round()
        sizes = tuple(by_area[int(i)] for i in spaced)
        return Check(
            self.inputs,
            self.batch,
            self.pictures,
            sizes,
            self.difference,
            self.flips,
            self.place,
            self.decisions,
            self.undecided,
        )

    def _figures(self) -> str:
        difference = (
            f"relative difference {self.difference:.1e}, at most {TOLERANCE:.0e} is accepted"
            if math.isfinite(self.difference)
            else "outputs differ in name or shape, or are not finite"
        )
        counted = f"{difference}; {self.flips} changed decisions in {self.pictures} pictures"
        if self.flips or not math.isfinite(self.difference) or not self.pair.exact:
            return counted
        return (
            f"{counted}; the network magnifies rounding: train it at a lower rate, for fewer "
            "epochs, or with smoothed labels"
        )


def _compare_batches(pair: _Pair, real: RealPictures, batch: int) -> Check:
    tally = _Tally(pair, "real", batch)
    group: list[tuple[int, Image]] = []
    first: list[tuple[int, Image]] = []

    def run() -> None:
        images = stack_common([image for _, image in group])
        places = [_place(index) for index, _ in group]
        names = [real.samples.name(index) for index, _ in group]
        tally.add(images, pair.run(images), places, names)
        group.clear()

    for index, _, image in real.load(real.indices(MAX_IN_BATCHES)):
        tally.pictures += 1
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
    pair: _Pair, real: RealPictures, bare: Size | None
) -> tuple[Check, float | None, float | None, str]:
    tally = _Tally(pair, "real", 1)
    metrics = pair.task.build_metrics(), pair.task.build_metrics()
    digest = PictureHash()
    for index, original, image in real.load(real.indices(MAX_SINGLE)):
        tally.pictures += 1
        digest.add(original)
        results = pair.run(image[None])
        tally.add(image[None], results, [_place(index)], [real.samples.name(index)])
        for metric, decoded in zip(metrics, results, strict=True):
            shown = for_targets(pair.task, decoded, bare, image.shape[:2], original.shape[:2])
            metric.update(shown, pair.task.collate([real.samples.target(index)]))
    check = tally.result()
    torch_value, exported_value = (headline_of(pair.task, m) for m in metrics)
    return check, torch_value, exported_value, digest.hexdigest()


def _compare_random(pair: _Pair, size: tuple[int, int] | None, batch: int) -> Check:
    tally = _Tally(pair, "random", batch)
    config = pair.graph.preprocess.config
    random = np.random.default_rng(batch)
    sizes = [size] if size else sizes_around(*config.size)[: 4 if batch <= MIXED_BATCH else 2]
    for height, width in sizes:
        images = random_pictures(random, batch, height, width, len(config.mean))
        names = [f"random picture {i + 1} of {batch}" for i in range(batch)]
        tally.pictures += batch
        tally.add(images, pair.run(images), names, names)
    return tally.result()


def _compare_plain(pair: _Pair, size: tuple[int, int], batch: int) -> Check:
    """Try pictures without content, where a division by nothing shows."""
    images = plain_pictures(*size, len(pair.graph.preprocess.config.mean))
    names = [f"a {name} picture" for name in PLAIN]
    tally = _Tally(pair, "plain", batch, pictures=len(images))
    for start in range(0, len(images), batch):
        some = slice(start, start + batch)
        reference, candidate = pair.run(images[some])
        if pair.exact and _equal_but_for_ties(reference, candidate):
            candidate = reference
        tally.add(images[some], (reference, candidate), names[some], names[some])
    return tally.result()


def _equal_but_for_ties(reference: Arrays, candidate: Arrays) -> bool:
    """Say whether scores agree though another one of equals may have been chosen.

    All places of an even picture are alike, and which of them a detector names is chance. So all
    results must be finite, and one real-valued one must be the same in each picture, in any order.
    """
    if reference.keys() != candidate.keys() or any(
        value.shape != candidate[name].shape or not np.isfinite(candidate[name]).all()
        for name, value in reference.items()
    ):
        return False
    for name, value in reference.items():
        if value.dtype.kind == "f" and value.ndim > 1 and value.size:
            one, other = (np.sort(v.reshape(len(v), -1), 1) for v in (value, candidate[name]))
            scale = max(float(np.abs(one).max()), 1e-12)
            if float(np.abs(one - other).max()) <= TOLERANCE * scale:
                return True
    return False


def _one(arrays: Arrays, index: int) -> Arrays:
    return {name: np.atleast_1d(value)[index : index + 1] for name, value in arrays.items()}


def _place(index: int) -> str:
    return f"picture {index}"

"""Compare a candidate with a reference, batch by batch.

This is the one engine behind every check of an exported file: the proof at export,
``visiongraft verify`` and the test kit for plugins. The candidate is the file. The reference is
PyTorch, or the file itself on one image at a time. Only numpy is imported, so that files can be
checked where PyTorch is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from visiongraft.certificate import Comparison
from visiongraft.comparison import (
    Arrays,
    Disagreement,
    comparing_extras,
    only_extras,
    without_extras,
)
from visiongraft.errors import ExportError, one_line
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.verification.summaries import describe_difference

TOLERANCE = 1e-4  # relative to the largest reference value; float32 kernels differ by 1e-6 to 1e-5
MAX_NEAR_TIES = 3  # images of one comparison that may be near-ties
NEAR_TIE_FRACTION = 10  # or one in so many images, if those are more
_SIZES_NAMED = 20

ImageBatch = NDArray[Any]  # raw samples: of images uint8 (N, H, W, C)
RunBatch = Callable[[ImageBatch], Arrays]
Compare = Callable[[Arrays, Arrays], Disagreement]


class Reference(Protocol):
    """The trusted side of a comparison."""

    @property
    def name(self) -> str:
        """Name in messages."""

    def run(self, images: ImageBatch) -> Arrays:
        """Return the results for raw images, uint8 (N, H, W, C)."""

    def settle(
        self, images: ImageBatch, results: tuple[Arrays, Arrays], most: int
    ) -> tuple[Arrays, int]:
        """Accept near-ties among images whose predictions differ.

        Args:
            images: uint8 (N, H, W, C).
            results: Those of the reference and of the candidate.
            most: Largest number of near-ties.

        Returns:
            The reference results to compare with, and the number of near-ties.
        """


@dataclass(frozen=True)
class SingleImages:
    """The candidate as its own reference: an image must have the same result alone as in a batch.

    Attributes:
        candidate: The candidate.
    """

    candidate: RunBatch
    name: str = "the same file on single images"

    def run(self, images: ImageBatch) -> Arrays:
        """Run the images one by one, and join the results."""
        alone = [self.candidate(images[i : i + 1]) for i in range(len(images))]
        return {key: np.concatenate([one[key] for one in alone]) for key in alone[0]}

    def settle(
        self, images: ImageBatch, results: tuple[Arrays, Arrays], most: int
    ) -> tuple[Arrays, int]:
        """Accept no near-ties."""
        return results[0], 0


@dataclass(frozen=True)
class BatchOutcome:
    """The comparison of one batch.

    Attributes:
        reference: Results of the reference, after near-ties were settled.
        candidate: Results of the candidate.
        found: How far they are apart.
        near_ties: Number of images that are near-ties.
    """

    reference: Arrays
    candidate: Arrays
    found: Disagreement
    near_ties: int = 0


@dataclass(frozen=True)
class Pair:
    """A reference and a candidate.

    Attributes:
        reference: The trusted side.
        candidate: Returns the candidate's results for raw images, uint8 (N, H, W, C).
        measure: Measures how far two sets of results of the task are apart, as
            ``ExportSupport.compare``.
        tolerance: Largest relative difference, with no changed prediction; ``None`` accepts all
            finite results, for a lower precision that is held to a budget.
        extras: Names of the extra outputs, which the task's comparison does not know.
        inputs: What both sides take.
        scales: By name the largest absolute reference value of each extra output so far, which differences are
            relative to, within the bound of ``comparison.WIDEST``. Few channels of a plain image may be above 0, so
            that its feature map is nearly empty, with the rounding errors of sums as large as those of others.
    """

    reference: Reference
    candidate: RunBatch
    measure: Compare
    tolerance: float | None = TOLERANCE
    extras: tuple[str, ...] = ()
    inputs: Inputs = IMAGES
    scales: dict[str, float] = field(default_factory=dict, init=False, compare=False)

    def compare(self, images: ImageBatch) -> BatchOutcome:
        """Run both sides on one batch, uint8 (N, H, W, C), and compare the results."""
        results = self.reference.run(images), self.candidate(images)
        return self.judge(images, results, MAX_NEAR_TIES)

    def judge(self, images: ImageBatch, results: tuple[Arrays, Arrays], most: int) -> BatchOutcome:
        """Compare the results for one batch, of which at most so many images may be near-ties."""
        reference, candidate = results
        found = self.disagreement(reference, candidate)
        if not found.mismatches or self.tolerance is None or not math.isfinite(found.difference):
            return BatchOutcome(reference, candidate, found)
        reference, near_ties = self.reference.settle(images, results, most)
        found = self.disagreement(reference, candidate)
        return BatchOutcome(reference, candidate, found, near_ties)

    def disagreement(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        """Measure how far results are apart; a difference that is NaN counts as infinite."""
        for name in self.extras:
            largest = float(np.abs(reference[name]).max(initial=0)) if name in reference else 0.0
            if math.isfinite(largest):
                self.scales[name] = max(self.scales.get(name, 0.0), largest)
        compare = comparing_extras(self.measure, self.extras, self.scales)
        found = compare(reference, candidate)
        return replace(found, difference=math.inf) if math.isnan(found.difference) else found

    def equal_but_for_ties(self, reference: Arrays, candidate: Arrays) -> bool:
        """Check whether the results of the task are ``equal_but_for_ties``."""
        own = (without_extras(side, self.extras) for side in (reference, candidate))
        return self.tolerance is not None and equal_but_for_ties(*own)

    def accepts(self, difference: float, mismatches: int) -> bool:
        """Check whether a difference and a number of changed predictions are acceptable."""
        if self.tolerance is None:
            return not math.isinf(difference)
        return difference <= self.tolerance and not mismatches


@dataclass
class RunningComparison:
    """Adds up the batches of one comparison.

    Attributes:
        pair: Both sides.
        inputs: Kind of the images; see ``Comparison``.
        batch: Images per call.
    """

    pair: Pair
    inputs: str
    batch: int
    images: int = 0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    difference: float = 0.0
    mismatches: int = 0
    predictions: int = 0
    near_ties: int = 0
    worst: tuple[float, float] = (-1.0, -1.0)
    worst_image: str = ""
    worst_name: str = ""
    worst_change: str = ""

    def add(
        self,
        images: ImageBatch,
        positions: Sequence[str],
        names: Sequence[str],
        count: int | None = None,
        ties_allowed: bool = False,
    ) -> tuple[Arrays, Arrays]:
        """Run both sides on a batch, and add up how far the results are apart.

        Args:
            images: uint8 (N, H, W, C).
            positions: Name of each image in the certificate.
            names: Name of each image in messages.
            count: How many of the images are new, and not there to fill the batch; all if
                ``None``.
            ties_allowed: Whether results also agree that differ in which of equal scores was
                chosen; see ``equal_but_for_ties``.

        Returns:
            The results of the reference and of the candidate.

        Raises:
            ExportError: One of the sides fails.
        """
        self.images += len(images) if count is None else count
        kind = self.pair.inputs
        reference = run_side(self.pair.reference.name, self.pair.reference.run, images, kind)
        candidate = run_side("the exported file", self.pair.candidate, images, kind)
        results = reference, candidate
        if ties_allowed and self.pair.equal_but_for_ties(reference, candidate):
            candidate = {**reference, **only_extras(candidate, self.pair.extras)}
        most = max(MAX_NEAR_TIES, self.images // NEAR_TIE_FRACTION) - self.near_ties
        outcome = self.pair.judge(images, (reference, candidate), most)
        self._count(outcome, kind.size(images.shape), positions, names)
        return results

    def result(self) -> Comparison:
        """Return the comparison.

        Raises:
            ExportError: The candidate disagrees with the reference.
        """
        if not self.pair.accepts(self.difference, self.mismatches):
            raise ExportError(
                f"the exported file disagrees with {self.pair.reference.name} in batches of "
                f"{self.batch}, most on {self.worst_name}: {self._figures()}"
            )
        by_area = sorted(self.sizes, key=lambda s: (s[0] * s[1], s))
        spaced = np.linspace(0, len(by_area) - 1, min(len(by_area), _SIZES_NAMED)).round()
        return Comparison(
            self.inputs,
            self.batch,
            self.images,
            tuple(by_area[int(i)] for i in spaced),
            self.difference,
            self.mismatches,
            self.worst_image,
            self.predictions,
            self.near_ties,
        )

    def _count(
        self,
        outcome: BatchOutcome,
        size: tuple[int, int],
        positions: Sequence[str],
        names: Sequence[str],
    ) -> None:
        height, width = size
        found = outcome.found
        self.sizes.add((height, width))
        self.difference = max(self.difference, found.difference)
        self.mismatches += found.mismatches
        self.predictions += sum(v.size for v in outcome.reference.values() if v.dtype.kind in "iub")
        self.near_ties += outcome.near_ties
        if (found.mismatches, found.difference) <= self.worst:
            return
        self.worst = (found.mismatches, found.difference)

        def badness(index: int) -> tuple[float, float]:
            both = (of_image(side, index) for side in (outcome.reference, outcome.candidate))
            alone = self.pair.disagreement(*both)
            return alone.mismatches, alone.difference

        index = max(range(len(names)), key=badness)
        self.worst_change = describe_difference(
            *(of_image(side, index) for side in (outcome.reference, outcome.candidate))
        )
        self.worst_image, self.worst_name = positions[index], f"{names[index]} ({height}x{width})"

    def _figures(self) -> str:
        tolerance = self.pair.tolerance
        if not math.isfinite(self.difference):
            difference = "outputs differ in name or shape, or are not finite"
        else:
            difference = (
                f"relative difference {self.difference:.1e}, at most {tolerance:.0e} is accepted"
            )
        counted = (
            f"{self.worst_change}; {difference}; {self.mismatches} changed predictions in "
            f"{self.images} {self.pair.inputs.name}"
        )
        if self.mismatches or not math.isfinite(self.difference):
            return counted
        return (
            f"{counted}; the network amplifies rounding: train it with a lower learning rate, for "
            "fewer epochs, or with label smoothing"
        )


def of_image(arrays: Arrays, index: int) -> Arrays:
    """Return the results of one image of a batch, as a batch of one."""
    return {name: np.atleast_1d(value)[index : index + 1] for name, value in arrays.items()}


def equal_but_for_ties(reference: Arrays, candidate: Arrays) -> bool:
    """Check whether scores agree although another of several equal ones may have been chosen.

    All positions of a plain image are alike, and which of them a detector names is chance. So all
    results must be finite, and one real-valued result must be the same for each image, in any
    order.
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


def run_side(side: str, run: RunBatch, images: ImageBatch, inputs: Inputs = IMAGES) -> Arrays:
    """Run one side on raw samples.

    Raises:
        ExportError: It fails; the message starts with ``side``.
    """
    try:
        return run(images)
    except Exception as error:  # PyTorch's and the runtimes' exceptions have no common base
        height, width = inputs.size(images.shape)
        raise ExportError(
            f"{side} fails on {len(images)} {inputs.name} of {height}x{width} pixels: {one_line(error)}"
        ) from error

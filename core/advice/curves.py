"""Learning curves: the accuracy of a linear probe over the number of labeled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.power_laws import PowerLaws, fit_falling, fit_flattening
from visiongraft.advice.probes import fit_linear_probe
from visiongraft.advice.sampling import balanced_order, renumbered
from visiongraft.scorers import ClassIds, Floats
from visiongraft.seeds import mix_seed

PARTS = (8, 4, 2)  # the curve has points at N / 8, N / 4, N / 2 and N images
REPEATS = 10
FEWEST = 16  # images at the first point
DRAWS = 1000  # of the interval
FARTHEST = 20  # doublings; numbers of labels beyond are not told


@dataclass(frozen=True)
class NeededLabels:
    """How many labeled images a linear probe needs.

    Attributes:
        accuracy: The accuracy that they are needed for; ``None`` if they are those from which on
            twice as many gain less than a point.
        images: The number that is expected; ``None`` if it is out of reach.
        low: Lower end of its interval of 95 %; ``None`` likewise.
        high: Upper end; ``None`` likewise.
    """

    accuracy: float | None
    images: int | None
    low: int | None
    high: int | None

    def __str__(self) -> str:
        """Describe the need in one line."""
        if self.accuracy is None:
            aim = "for the point from which on twice as many gain less than 1 point"
        else:
            aim = f"for an accuracy of {self.accuracy:.3f}"
        if self.low is None:
            return f"no number of labels is in sight {aim}, with a linear probe"
        about = "more" if self.images is None else f"about {self.images}"
        high = "out of reach" if self.high is None else str(self.high)
        return f"you need {about} labels ({self.low} to {high}) {aim}, with a linear probe"


@dataclass(frozen=True)
class LearningCurve:
    """Accuracies of a linear probe, and what more images would give.

    Attributes:
        images: Numbers of images that the probe was fitted to.
        accuracies: Mean accuracy on other images for each of them.
        expected_images: Number of images of the extrapolation.
        expected: Accuracy that is expected there.
        low: Lower end of its interval of 95 %.
        high: Upper end.
        needed: How many labels are needed.
    """

    images: tuple[int, ...]
    accuracies: tuple[float, ...]
    expected_images: int
    expected: float
    low: float
    high: float
    needed: NeededLabels

    def __str__(self) -> str:
        """Describe the curve in one line."""
        points = ", ".join(
            f"{accuracy:.3f} with {count}"
            for count, accuracy in zip(self.images, self.accuracies, strict=True)
        )
        return (
            f"a linear probe has accuracy {points} images; {self.expected_images} would give about "
            f"{self.expected:.3f} ({self.low:.3f} to {self.high:.3f}), extrapolated by a power law"
        )


def learning_curve(
    features: Floats, labels: ClassIds, seed: int, target: float | None = None
) -> LearningCurve | None:
    """Measure and extrapolate a learning curve.

    Nested subsets are drawn ten times; a probe that is fitted to one of them is evaluated on all other
    images, and the one that is fitted to all images by leaving one out. The error is extrapolated by two
    power laws, ``b n^-c`` and ``a + b n^-c``: what is expected is in the middle, and the interval holds
    both. It also holds the deviation between the repetitions, and that of a proportion of N images.

    Args:
        features: float64 (N, D).
        labels: int64 (N,), class ids.
        seed: Seed of the subsets.
        target: Accuracy that labels are needed for; ``None`` for the point where the curve flattens.

    Returns:
        The curve; ``None`` for fewer than 128 images.
    """
    count = len(labels)
    sizes = [count // part for part in PARTS]
    if sizes[0] < FEWEST:
        return None
    errors = _errors(features, labels, sizes, seed)
    mean, noisy = errors.mean(0, keepdims=True), _redrawn(errors, count, seed)
    middle = [fit_flattening(mean), fit_falling(mean)]
    drawn = [fit_flattening(noisy), fit_falling(noisy)]
    expected = float(np.mean([law.at(len(PARTS) + 1) for law in middle]))
    low, high = np.quantile([law.at(len(PARTS) + 1) for law in drawn], [0.025, 0.975], axis=1)
    return LearningCurve(
        (*sizes, count),
        tuple((1 - errors.mean(0)).tolist()),
        2 * count,
        1 - expected,
        1 - float(max(*high, expected)),
        1 - float(min(*low, expected)),
        _needed(middle, drawn, count, target),
    )


def _errors(features: Floats, labels: ClassIds, sizes: Sequence[int], seed: int) -> Floats:
    """Return the error of probes that are fitted to some of the images, float64 (REPEATS, points)."""
    whole = float((fit_linear_probe(features, labels).left_out != labels).mean())
    errors = np.full((REPEATS, len(sizes) + 1), whole)
    for repeat in range(REPEATS):
        order = balanced_order(labels, len(labels), mix_seed(seed, "curve", repeat))
        for point, size in enumerate(sizes):
            errors[repeat, point] = _error(features, labels, order, size)
    return errors


def _redrawn(errors: Floats, count: int, seed: int) -> Floats:
    """Return curves that other images could have had, float64 (DRAWS, points)."""
    generator = np.random.Generator(np.random.PCG64(mix_seed(seed, "curve")))
    drawn = generator.integers(0, REPEATS, (DRAWS, REPEATS))
    means = errors[drawn].mean(1)
    deviation = np.sqrt(np.maximum(means * (1 - means), 0) / count)
    noisy = means + deviation * generator.normal(size=means.shape)
    return np.asarray(np.maximum(noisy, 0.5 / count))


def _error(features: Floats, labels: ClassIds, order: NDArray[np.intp], size: int) -> float:
    """Fit a probe to the first images of an order, and return its error on the others."""
    kept, others = order[:size], order[size:]
    known = np.unique(labels[kept])
    probe = fit_linear_probe(features[kept], renumbered(labels[kept]))
    return float((known[probe.predict(features[others])] != labels[others]).mean())


def _needed(
    middle: Sequence[PowerLaws], drawn: Sequence[PowerLaws], count: int, target: float | None
) -> NeededLabels:
    """Find the number of images from which on curves are flat, or have an accuracy."""

    def images(laws: PowerLaws) -> Floats:
        doublings = laws.flat_from() if target is None else laws.reaching(1 - target)
        return count / PARTS[0] * np.exp2(np.minimum(doublings, 2.0 * FARTHEST))

    ends = np.quantile([images(law) for law in drawn], [0.025, 0.975], axis=1, method="nearest")
    expected = np.exp(np.mean([np.log(images(law)[0]) for law in middle]))
    low, high = min(*ends[0], expected), max(*ends[1], expected)
    farthest = count * 2.0**FARTHEST
    low, expected, high = (
        None if each > farthest else max(1, round(float(each))) for each in (low, expected, high)
    )
    return NeededLabels(target, expected, low, high)

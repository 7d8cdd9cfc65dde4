"""Learning curves: the accuracy of a linear probe over the number of labeled images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.probes import fit_linear_probe
from visiongraft.advice.sampling import balanced_order, renumbered
from visiongraft.scorers import ClassIds, Floats
from visiongraft.seeds import mix_seed

PARTS = (8, 4, 2)  # the curve has points at N / 8, N / 4, N / 2 and N images
REPEATS = 10
FEWEST = 16  # images at the first point
DRAWS = 1000  # of the interval
RATIOS = np.linspace(0.02, 0.98, 49)  # of an error to the one with half the images


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
    """

    images: tuple[int, ...]
    accuracies: tuple[float, ...]
    expected_images: int
    expected: float
    low: float
    high: float

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


def learning_curve(features: Floats, labels: ClassIds, seed: int) -> LearningCurve | None:
    """Measure and extrapolate a learning curve.

    Nested subsets are drawn ten times; a probe that is fitted to one of them is evaluated on all other
    images, and the one that is fitted to all images by leaving one out. The error is extrapolated by two
    power laws, ``b n^-c`` and ``a + b n^-c``: what is expected is in the middle, and the interval holds
    both. It also holds the deviation between the repetitions, and that of a proportion of N images.

    Args:
        features: float64 (N, D).
        labels: int64 (N,), class ids.
        seed: Seed of the subsets.

    Returns:
        The curve; ``None`` for fewer than 128 images.
    """
    count = len(labels)
    sizes = [count // part for part in PARTS]
    if sizes[0] < FEWEST:
        return None
    whole = float((fit_linear_probe(features, labels).left_out != labels).mean())
    errors = np.full((REPEATS, len(sizes) + 1), whole)
    for repeat in range(REPEATS):
        order = balanced_order(labels, count, mix_seed(seed, "curve", repeat))
        for point, size in enumerate(sizes):
            errors[repeat, point] = _error(features, labels, order, size)
    images = (*sizes, count)
    generator = np.random.Generator(np.random.PCG64(mix_seed(seed, "curve")))
    drawn = generator.integers(0, REPEATS, (DRAWS, REPEATS))
    means = errors[drawn].mean(1)  # (DRAWS, points)
    deviation = np.sqrt(np.maximum(means * (1 - means), 0) / count)
    noisy = means + deviation * generator.normal(size=means.shape)
    mean = errors.mean(0, keepdims=True)
    expected = float(_flattening(mean)[0] + _falling(mean)[0]) / 2
    noisy = np.maximum(noisy, 0.5 / count)
    low, high = np.quantile([_flattening(noisy), _falling(noisy)], [0.025, 0.975], axis=1)
    return LearningCurve(
        images,
        tuple((1 - errors.mean(0)).tolist()),
        2 * count,
        1 - expected,
        1 - float(max(*high, expected)),
        1 - float(min(*low, expected)),
    )


def _error(features: Floats, labels: ClassIds, order: NDArray[np.intp], size: int) -> float:
    """Fit a probe to the first images of an order, and return its error on the others."""
    kept, others = order[:size], order[size:]
    known = np.unique(labels[kept])
    probe = fit_linear_probe(features[kept], renumbered(labels[kept]))
    return float((known[probe.predict(features[others])] != labels[others]).mean())


def _flattening(errors: Floats) -> Floats:
    """Continue errors at doubled numbers of images by one point, if some error remains for ever.

    Fits ``a + b r^k`` with ``a, b >= 0`` and ``r`` in (0, 1), which is a power law of the number of
    images with an error that remains, by least squares for each of some ratios ``r``.

    Args:
        errors: float64 (R, points), each row a curve.

    Returns:
        float64 (R,).
    """
    steps = np.arange(errors.shape[1])
    best, found = np.full(len(errors), np.inf), np.zeros(len(errors))
    for ratio in RATIOS:
        powers = ratio**steps
        centered = powers - powers.mean()
        slopes = np.maximum((errors @ centered) / (centered**2).sum(), 0)
        rests = errors.mean(1) - slopes * powers.mean()
        alone = np.maximum(errors @ powers / (powers**2).sum(), 0)  # without an error that remains
        slopes, rests = np.where(rests < 0, alone, slopes), np.maximum(rests, 0)
        misfit = ((errors - rests[:, None] - slopes[:, None] * powers) ** 2).sum(1)
        better = misfit < best
        best = np.where(better, misfit, best)
        found = np.where(better, rests + slopes * ratio ** len(steps), found)
    return found


def _falling(errors: Floats) -> Floats:
    """Continue errors as ``_flattening`` does, if they fall by the same factor ``r <= 1`` for ever."""
    steps = np.arange(errors.shape[1]) - (errors.shape[1] - 1) / 2
    logs = np.log(np.maximum(errors, 1e-9))
    slopes = np.minimum(logs @ steps / (steps**2).sum(), 0)
    return np.asarray(np.exp(logs.mean(1) + slopes * (steps[-1] + 1)))

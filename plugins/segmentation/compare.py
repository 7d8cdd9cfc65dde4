"""Compare the masks of two implementations, distinguishing rounding errors from faults."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.task import Arrays, Disagreement

TIE_MARGIN = 1e-3  # margin in probability below which rounding may change a class
OUTLIER_FRACTION = 0.001  # of an image's pixels
OUTLIER_WEIGHT = 0.01  # factor on the difference of outliers


def compare_masks(reference: Arrays, candidate: Arrays) -> Disagreement:
    """Compare decoded masks, pixel by pixel and image by image.

    A pixel whose class differs is a mismatch, unless it is a near-tie: in both results the
    predicted class leads over the next one by less than 0.001 in probability. Rounding decides
    such pixels, and a few of them occur along the border between two classes. If more than 0.1 %
    of an image's pixels (or more than one pixel in images of less than 2000) are changed
    near-ties, all of them count as mismatches. It is therefore not enough that 99.9 % of the
    pixels agree: the others must be near-ties as well.

    ``difference`` is the absolute difference of ``margins`` and ``probabilities``, whose scale is
    1: the 99.9 % quantile over an image's pixels, or 0.01 times the maximum if that is larger,
    because a few of hundreds of thousands of pixels are always outliers.

    Args:
        reference: Decoded outputs of the reference.
        candidate: Decoded outputs to check.

    Returns:
        The disagreement; infinite if names, shapes, types or finiteness differ.
    """
    incompatible = Disagreement(float("inf"), 0)
    if reference.keys() != candidate.keys():
        return incompatible
    difference = 0.0
    for name, expected in reference.items():
        actual = candidate[name]
        if expected.shape != actual.shape or expected.dtype.kind != actual.dtype.kind:
            return incompatible
        if expected.dtype.kind != "f":
            continue
        if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
            return incompatible
        per_image = [_difference(a, b) for a, b in zip(expected, actual, strict=True)]
        difference = max([difference, *per_image])
    images = zip(
        reference["labels"] != candidate["labels"],
        (reference["margins"] < TIE_MARGIN) & (candidate["margins"] < TIE_MARGIN),
        strict=True,
    )
    return Disagreement(difference, sum(_mismatches(changed, tied) for changed, tied in images))


def _difference(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    """Return the difference over one image, with little weight on outliers."""
    errors = np.abs(expected.astype(np.float64) - actual).ravel()
    if not errors.size:
        return 0.0
    rank = errors.size - 1 - int(OUTLIER_FRACTION * errors.size)
    quantile = float(np.partition(errors, rank)[rank])
    return round(max(quantile, OUTLIER_WEIGHT * float(errors.max())), 12)


def _mismatches(changed: NDArray[np.bool_], tied: NDArray[np.bool_]) -> int:
    """Count the changed pixels of one image that are not explained by near-ties."""
    ties = int((changed & tied).sum())
    allowed = max(1, int(OUTLIER_FRACTION * changed.size))
    return int(changed.sum()) - (ties if ties <= allowed else 0)

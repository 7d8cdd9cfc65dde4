"""What tells rounding from a fault when two programs draw the same masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.task import Arrays, Disagreement

TIE = 1e-3  # lead in probability below which rounding may change a class
FEW = 0.001  # share of an image's pixels that may stand out
STANDING_OUT = 0.01  # how much of such a pixel's difference counts


def compare_masks(reference: Arrays, candidate: Arrays) -> Disagreement:
    """Compare decoded masks, pixel by pixel and image by image.

    A pixel of another class is a flip, unless rounding explains it: in both results its class
    leads over the next one by less than 0.001 in probability. Between two classes that are equally
    probable the last digit decides, and along their border that happens to a handful of pixels.
    More than 0.1 % of an image's pixels (or more than one in images of less than 2000) are no
    handful, and then all of them are flips. So it is not enough that 99.9 % of the pixels agree:
    the rest must be ties as well.

    ``difference`` is that of ``margins`` and ``probabilities``, absolute, since their scale is 1:
    the largest one that 99.9 % of an image's pixels stay within. The other pixels count with a
    hundredth of their difference: of hundreds of thousands some always stand out.

    Args:
        reference: The values to trust.
        candidate: The values to judge.

    Returns:
        The disagreement; infinite where names, shapes, types or finiteness differ.
    """
    broken = Disagreement(float("inf"), 0)
    if reference.keys() != candidate.keys():
        return broken
    difference = 0.0
    for name, expected in reference.items():
        got = candidate[name]
        if expected.shape != got.shape or expected.dtype.kind != got.dtype.kind:
            return broken
        if expected.dtype.kind != "f":
            continue
        if not (np.isfinite(expected).all() and np.isfinite(got).all()):
            return broken
        each = [_difference(one, other) for one, other in zip(expected, got, strict=True)]
        difference = max([difference, *each])
    images = zip(
        reference["labels"] != candidate["labels"],
        (reference["margins"] < TIE) & (candidate["margins"] < TIE),
        strict=True,
    )
    return Disagreement(difference, sum(_mismatches(changed, tied) for changed, tied in images))


def _difference(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Give the difference that all but a few pixels of one image stay within."""
    apart = np.abs(expected.astype(np.float64) - got).ravel()
    if not apart.size:
        return 0.0
    place = apart.size - 1 - int(FEW * apart.size)
    usual = float(np.partition(apart, place)[place])
    return round(max(usual, STANDING_OUT * float(apart.max())), 12)


def _mismatches(changed: NDArray[np.bool_], tied: NDArray[np.bool_]) -> int:
    """Count the changed pixels of one image that rounding does not explain."""
    ties = int((changed & tied).sum())
    allowed = max(1, int(FEW * changed.size))
    return int(changed.sum()) - (ties if ties <= allowed else 0)

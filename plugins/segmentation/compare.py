"""What tells rounding from a fault when two programs draw the same masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visiongraft.task import Arrays, Disagreement

TIE = 1e-3  # lead in probability below which rounding may change a class
MOST_TIES = 0.001  # of a picture's pixels


def compare_masks(reference: Arrays, candidate: Arrays) -> Disagreement:
    """Compare decoded masks, pixel by pixel.

    ``difference`` is the largest absolute difference of ``margins`` and ``probabilities``, whose
    scale is 1. A pixel of another class is forgiven only where the reference's class leads over
    the next one by less than 0.001 in probability, and the candidate's does too: two classes that
    are equally probable, between which the last digit decides. At the border of two classes that
    is a handful of pixels. In a picture where they are more than 0.1 % (and more than one), they
    are all counted as flips, as are all others: agreement on 99.9 % of the pixels is not enough
    where a margin says that the rest is no rounding.

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
        if expected.dtype.kind == "f" and expected.size:
            if not (np.isfinite(expected).all() and np.isfinite(got).all()):
                return broken
            worst = float(np.abs(expected.astype(np.float64) - got).max())
            difference = max(difference, round(worst, 12))
    flips = sum(
        _flips(expected != got, (lead < TIE) & (other < TIE))
        for expected, got, lead, other in zip(
            reference["labels"],
            candidate["labels"],
            reference["margins"],
            candidate["margins"],
            strict=True,
        )
    )
    return Disagreement(difference, flips)


def _flips(changed: NDArray[np.bool_], tied: NDArray[np.bool_]) -> int:
    """Count the changed pixels of one picture that rounding does not explain."""
    ties = int((changed & tied).sum())
    allowed = max(1, int(MOST_TIES * changed.size))
    return int(changed.sum()) - (ties if ties <= allowed else 0)

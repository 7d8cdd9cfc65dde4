"""Measure how far two sets of results are apart; numpy only, so that this works anywhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

# How many times their own largest value real values may be compared relative to, where others of the same output are
# larger. Outputs that are nearly empty have the rounding errors of sums as large as those of others: a class-activation
# map of a plain gray image came to 0.67e-4 to 0.99e-4 of its own largest value, at a tolerance of 1e-4. Ten times is
# enough for that; and values that are all lost still differ by a tenth, which no tolerance accepts.
WIDEST = 10.0


@dataclass(frozen=True)
class Disagreement:
    """How far one set of decoded outputs is from another.

    Attributes:
        difference: Largest absolute difference of real-valued outputs, relative to the largest
            absolute reference value of the same output.
        mismatches: How many predictions (classes, counts, masks ...) differ.
    """

    difference: float
    mismatches: int


def compare_arrays(
    reference: Arrays, candidate: Arrays, *, scales: Mapping[str, float] | None = None
) -> Disagreement:
    """Compare two sets of named arrays: floats by relative difference, the rest exactly.

    Args:
        reference: The values to trust.
        candidate: The values to judge.
        scales: By name what real values are compared relative to, if it is more than their own largest one; at most
            ``WIDEST`` times that.

    Returns:
        The worst relative difference of the real values, and how many other values differ.

    Examples:
        >>> a = {"p": np.array([0.5, 1.0]), "label": np.array([1])}
        >>> b = {"p": np.array([0.5, 0.9]), "label": np.array([0])}
        >>> compare_arrays(a, b)
        Disagreement(difference=0.1, mismatches=1)
    """
    difference, mismatches = 0.0, 0
    if reference.keys() != candidate.keys():
        return Disagreement(float("inf"), 0)
    for name, expected in reference.items():
        got = candidate[name]
        if expected.shape != got.shape:
            return Disagreement(float("inf"), 0)
        if not np.issubdtype(expected.dtype, np.floating):
            mismatches += int((expected != got).sum())
        elif not (np.isfinite(expected).all() and np.isfinite(got).all()):
            difference = float("inf")
        elif expected.size:
            own = float(np.abs(expected).max())
            known = 0.0 if scales is None else scales.get(name, 0.0)
            scale = max(own, min(known, WIDEST * own), 1e-12)
            worst = float(np.abs(expected.astype(np.float64) - got).max()) / scale
            difference = max(difference, round(worst, 12))
    return Disagreement(difference, mismatches)


def without_extras(results: Arrays, extras: Collection[str]) -> Arrays:
    """Return the results of the task alone, without the extra outputs of a file."""
    return {name: value for name, value in results.items() if name not in extras}


def only_extras(results: Arrays, extras: Collection[str]) -> Arrays:
    """Return the extra outputs of a file alone."""
    return {name: value for name, value in results.items() if name in extras}


def comparing_extras(
    compare: Callable[[Arrays, Arrays], Disagreement],
    extras: Collection[str],
    scales: Mapping[str, float] | None = None,
) -> Callable[[Arrays, Arrays], Disagreement]:
    """Extend a task's comparison to the extra outputs of a file, which it does not know.

    Args:
        compare: Compares the results of the task.
        extras: Names of the extra outputs, which ``compare_arrays`` compares.
        scales: As for ``compare_arrays``.

    Returns:
        A function that compares all; ``compare`` itself if there are no extra outputs.
    """
    if not extras:
        return compare

    def compare_all(reference: Arrays, candidate: Arrays) -> Disagreement:
        own = compare(without_extras(reference, extras), without_extras(candidate, extras))
        more = compare_arrays(
            only_extras(reference, extras), only_extras(candidate, extras), scales=scales
        )
        return Disagreement(max(own.difference, more.difference), own.mismatches + more.mismatches)

    return compare_all

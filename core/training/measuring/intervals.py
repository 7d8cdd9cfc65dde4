"""Confidence intervals of fractions."""

from __future__ import annotations

from math import sqrt


def wilson(fraction: float, count: float, errors: float) -> tuple[float, float]:
    """Return the interval of a fraction of independent images or pairs (Wilson, 1927).

    Args:
        fraction: In [0, 1].
        count: Of how many it is the fraction, above 0.
        errors: Standard errors on each side, such as 1.96 for an interval of 95 %.

    Returns:
        The lower and the upper end, with the fraction between them.

    Examples:
        >>> [round(end, 2) for end in wilson(0.9, 10, 1.96)]
        [0.6, 0.98]
    """
    square = errors**2 / count
    middle = (fraction + square / 2) / (1 + square)
    spread = fraction * (1 - fraction) / count + square / count / 4
    half = errors / (1 + square) * sqrt(spread)
    # Rounding must not push an end beyond the fraction, or out of [0, 1].
    return max(min(middle - half, fraction), 0.0), min(max(middle + half, fraction), 1.0)

"""Reading and checking of single option values."""

from __future__ import annotations

import math
import re
from typing import Any

from visiongraft.errors import OptionError, near_matches

LOSSES = ("cross_entropy", "dice", "focal", "lovasz")
_TERM = re.compile(r"(?:([0-9.]+)\*)?([a-z_]+)")


def read_loss(text: Any) -> dict[str, float]:
    """Read a sum of losses.

    Args:
        text: Names joined by ``+``, each with or without a weight and ``*`` before it.

    Returns:
        Weights by name.

    Raises:
        OptionError: It is no such sum.

    Examples:
        >>> read_loss("0.5*focal + lovasz")
        {'focal': 0.5, 'lovasz': 1.0}
    """
    parts: dict[str, float] = {}
    for term in str(text).replace(" ", "").split("+"):
        match = _TERM.fullmatch(term)
        name = match[2] if match else term
        if match is None or name not in LOSSES:
            raise OptionError(f"loss={text!r}: {name!r} is no loss{near_matches(name, LOSSES)}")
        try:
            weight = float(match[1] or 1)
        except ValueError:
            weight = 0.0
        if name in parts or weight <= 0:
            raise OptionError(f"loss={text!r}: each loss comes once, with a weight above 0")
        parts[name] = weight
    return parts


def balanced_weights(counts: list[int]) -> tuple[float, ...]:
    """Weigh classes inversely to their pixels; over the training pixels the mean weight is 1.

    Args:
        counts: Training pixels of each class.

    Returns:
        One weight per class; 0 for a class without pixels, which has no term to weigh.

    Examples:
        >>> balanced_weights([30, 10])
        (0.6666666666666666, 2.0)
    """
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 0.0 for count in counts)


def is_number(value: Any) -> bool:
    """Say whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """Say whether a value is a whole number of 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

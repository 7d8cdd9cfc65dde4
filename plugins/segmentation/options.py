"""Parse the loss option, and compute balanced class weights."""

from __future__ import annotations

import re
from typing import Any

from visiongraft.errors import OptionError, near_matches

LOSSES = ("cross_entropy", "dice", "focal", "lovasz")
_TERM = re.compile(r"(?:([0-9.]+)\*)?([a-z_]+)")


def parse_loss(text: Any) -> dict[str, float]:
    """Parse a weighted sum of losses.

    Args:
        text: Names joined by ``+``, each with an optional weight and ``*`` before it.

    Returns:
        Weights by name.

    Raises:
        OptionError: The text cannot be parsed.

    Examples:
        >>> parse_loss("0.5*focal + lovasz")
        {'focal': 0.5, 'lovasz': 1.0}
    """
    parts: dict[str, float] = {}
    for term in str(text).replace(" ", "").split("+"):
        match = _TERM.fullmatch(term)
        name = match[2] if match else term
        if match is None or name not in LOSSES:
            raise OptionError(f"loss={text!r}: {name!r} is not a loss{near_matches(name, LOSSES)}")
        try:
            weight = float(match[1] or 1)
        except ValueError:
            weight = 0.0
        if name in parts or weight <= 0:
            raise OptionError(f"loss={text!r}: each loss must appear once, with a positive weight")
        parts[name] = weight
    return parts


def balanced_weights(counts: list[int]) -> tuple[float, ...]:
    """Compute class weights inversely proportional to frequency, with mean 1 over the pixels.

    Args:
        counts: Number of training pixels per class.

    Returns:
        One weight per class; 0 for a class without pixels.

    Examples:
        >>> balanced_weights([30, 10])
        (0.6666666666666666, 2.0)
    """
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 0.0 for count in counts)

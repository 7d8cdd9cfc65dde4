"""Parse the loss option."""

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

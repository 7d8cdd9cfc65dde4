"""Checks of option values, shared by the core and by plugins."""

from __future__ import annotations

import math
from typing import TypeGuard


def is_number(value: object, finite: bool = True) -> TypeGuard[float]:
    """Check whether a value is a number; booleans are not.

    Args:
        value: Any value.
        finite: Refuse infinities and NaN too.

    Returns:
        Whether it is an ``int`` or a ``float``.

    Examples:
        >>> is_number(0.5), is_number(True), is_number(float("inf"))
        (True, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return not finite or math.isfinite(value)


def is_integer(value: object, least: int | None = None) -> TypeGuard[int]:
    """Check whether a value is an integer; booleans are not.

    Args:
        value: Any value.
        least: Smallest integer to accept, if there is one.

    Returns:
        Whether it is an ``int`` of at least ``least``.

    Examples:
        >>> is_integer(3, least=1), is_integer(0, least=1), is_integer(2.0)
        (True, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return least is None or value >= least

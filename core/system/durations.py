"""Times as users write them: ``90s``, ``10min``, ``1h30m``."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

_NUMBER = r"(\d+(?:\.\d+)?)\s*"
_DURATION = re.compile(rf"{_NUMBER}|(?:{_NUMBER}h)?\s*(?:{_NUMBER}m(?:in)?)?\s*(?:{_NUMBER}s)?")


def parse_duration(what: Any) -> Any:
    """Convert a time to seconds: a number, or text such as ``90s``, ``10min`` or ``1h30m``.

    Args:
        what: The time.

    Returns:
        Seconds; what is neither is returned as it is.

    Examples:
        >>> parse_duration("90s"), parse_duration("1h30m"), parse_duration("10 min"), parse_duration(5)
        (90.0, 5400.0, 600.0, 5.0)
        >>> parse_duration("soon")
        'soon'
    """
    if isinstance(what, int) and not isinstance(what, bool):
        return float(what) if abs(what) < sys.float_info.max else math.inf
    match = _DURATION.fullmatch(what.strip().lower()) if isinstance(what, str) else None
    if match is None or not any(match.groups()):
        return what
    plain, *parts = (float(part) if part else 0.0 for part in match.groups())
    return plain + sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))


def describe_duration(seconds: float) -> str:
    """Describe a time to users.

    Examples:
        >>> [describe_duration(seconds) for seconds in (0.25, 45, 600, 5430)]
        ['0.25 s', '45 s', '10 min', '1 h 30 min 30 s']
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{n} {unit}" for n, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return " ".join(parts)

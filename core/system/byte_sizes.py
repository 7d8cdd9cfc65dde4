"""Amounts of disk space and memory, in words."""

from __future__ import annotations


def readable_size(count: float) -> str:
    """Return an amount with three digits and a unit.

    Args:
        count: A number of bytes.

    Examples:
        >>> readable_size(512), readable_size(2_034_000), readable_size(8e9)
        ('512 B', '2.03 MB', '8 GB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"

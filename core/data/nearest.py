"""Resize per-pixel results by the nearest pixel, with numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.comparison import Arrays

Size = tuple[int, int]


def at_size(decoded: Arrays, size: Size, new_size: Size) -> dict[str, NDArray[Any]]:
    """Resize the results that have one value per pixel.

    Args:
        decoded: Results by name. Those with three or more dimensions whose last two are ``size``
            are resized; all others stay unchanged.
        size: Height and width of the results.
        new_size: Height and width to return.

    Returns:
        The results; each pixel has the value of the source pixel that covers its center.

    Examples:
        >>> at_size({"labels": np.array([[[1, 2]]]), "count": np.array([2])}, (1, 2), (2, 4))
        {'labels': array([[[1, 1, 2, 2],
                [1, 1, 2, 2]]]), 'count': array([2])}
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(size, new_size, strict=True)
    )
    return {
        name: value[..., rows[:, None], columns]
        if value.ndim > 2 and value.shape[-2:] == size
        else value
        for name, value in decoded.items()
    }

"""Maps of images at another size, by the nearest pixel; numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.comparison import Arrays

Size = tuple[int, int]


def at_size(decoded: Arrays, size: Size, wanted: Size) -> dict[str, NDArray[Any]]:
    """Bring results that are maps over images to another size of the same images.

    Args:
        decoded: Results by name. Those of three or more dimensions, the last two of which are
            ``size``, are maps; all others stay as they are.
        size: Height and width of the maps.
        wanted: Height and width to give.

    Returns:
        The results; each pixel of a map has the value of the pixel that covers its center.

    Examples:
        >>> at_size({"labels": np.array([[[1, 2]]]), "count": np.array([2])}, (1, 2), (2, 4))
        {'labels': array([[[1, 1, 2, 2],
                [1, 1, 2, 2]]]), 'count': array([2])}
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(size, wanted, strict=True)
    )
    return {
        name: value[..., rows[:, None], columns]
        if value.ndim > 2 and value.shape[-2:] == size
        else value
        for name, value in decoded.items()
    }

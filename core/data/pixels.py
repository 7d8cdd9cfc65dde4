"""Images that contain nothing: all pixels equal, or black because of their range of values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import has_16_bits

DARK_BELOW = 16  # of 256: an image of 16 bits that holds values of 12 or fewer stays below
_DARK = "dark "


def unusual_values(image: NDArray[np.uint8], content: bytes) -> str:
    """Describe what is unusual about the values of an image.

    Args:
        image: uint8 (H, W, channels).
        content: The bytes of the file that it was decoded from.

    Returns:
        The value of the pixels if all are equal, such as ``"0 0 0"``; ``is_dark`` of the result is
        true for an image of 16 bits per value that uses a small part of their range. Empty for
        other images.

    Examples:
        >>> unusual_values(np.full((4, 5, 3), 7, np.uint8), b"")
        '7 7 7'
    """
    first = image[0, 0]
    few = image[:: max(len(image) // 16, 1), :: max(image.shape[1] // 16, 1)]
    # The few pixels decide about almost all images at no cost.
    equal = bool((few == first).all() and (image == first).all())
    black = bool(few.max() < DARK_BELOW and image.max() < DARK_BELOW)
    value = " ".join(map(str, first.tolist())) if equal else ""
    return _DARK + value if black and has_16_bits(content) else value


def is_dark(values: str) -> bool:
    """Check a result of ``unusual_values`` for an image that is black because of its range."""
    return values.startswith(_DARK)


def is_one_value(values: str) -> bool:
    """Check a result of ``unusual_values`` for an image whose pixels are all equal."""
    return bool(values.removeprefix(_DARK))

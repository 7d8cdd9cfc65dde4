"""Random regions of training images, which tasks crop together with their targets."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

ASPECT = 1.15  # maximum change of the aspect ratio

Region = tuple[int, int, int, int]


def random_region(
    image: tuple[int, int],
    shown: tuple[int, int],
    zoom: tuple[float, float],
    aspect: float = ASPECT,
) -> Region:
    """Sample a region, which may exceed the image.

    Args:
        image: Height and width of the image in pixels.
        shown: Height and width of the region at zoom 1.
        zoom: Lowest and highest zoom; a larger one shows less.
        aspect: Maximum change of the aspect ratio, a factor.

    Returns:
        Top, left, height and width in pixels.
    """
    low, high = (math.log(value) for value in zoom)
    factor = math.exp(low + (high - low) * float(torch.rand(())))
    change = aspect ** (2 * float(torch.rand(())) - 1)
    rows = max(round(shown[0] / factor * math.sqrt(change)), 1)
    columns = max(round(shown[1] / factor / math.sqrt(change)), 1)
    return _start(image[0], rows), _start(image[1], columns), rows, columns


def crop(values: Tensor, region: Region, fill: float) -> Tensor:
    """Crop a region.

    Args:
        values: (..., H, W).
        region: Top, left, height and width in pixels; see ``random_region``.
        fill: Value outside of the image.

    Returns:
        (..., height, width).
    """
    top, left, height, width = region
    bottom, right = top + height, left + width
    inside = values[..., max(top, 0) : bottom, max(left, 0) : right]
    padding = (
        max(-left, 0),
        max(right - values.shape[-1], 0),
        max(-top, 0),
        max(bottom - values.shape[-2], 0),
    )
    return F.pad(inside, padding, value=fill) if any(padding) else inside


def _start(length: int, shown: int) -> int:
    low, high = min(0, length - shown), max(0, length - shown)
    return low + int(torch.randint(high - low + 1, ()))

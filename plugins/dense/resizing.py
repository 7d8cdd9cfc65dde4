"""Resize feature maps and outputs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def resize_bilinear(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize feature maps or outputs, as the core resizes outputs before decoding.

    Args:
        values: (N, C, h, w).
        size: Height and width to produce.

    Returns:
        (N, C, height, width).
    """
    if values.shape[-2:] == size:
        return values
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)

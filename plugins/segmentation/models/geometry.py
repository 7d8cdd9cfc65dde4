"""Resize masks so that they are aligned with the network's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a mask with nearest-neighbor interpolation.

    Pixels are aligned by their centers, as in the bilinear resize of images; PyTorch's
    ``"nearest"`` would shift masks by up to half a pixel.

    Args:
        mask: Integers (..., H, W).
        size: Height and width to produce.

    Returns:
        The same type, (..., height, width).
    """
    if mask.shape[-2:] == size:
        return mask
    rows, columns = (_nearest(n, m) for n, m in zip(mask.shape[-2:], size, strict=True))
    return mask[..., rows.to(mask.device)[:, None], columns.to(mask.device)]


def masks_at_input(
    masks: Tensor | Sequence[Tensor], size: tuple[int, int], resize: str, ignored: int
) -> Tensor:
    """Resize or pad masks like their images, and stack them.

    Args:
        masks: Integers (..., H, W) per image, of any size.
        size: Height and width of the network's input.
        resize: How the images were resized: ``"stretch"``, or ``"pad"`` on the right and at the
            bottom.
        ignored: Value of ignored pixels.

    Returns:
        int64 (N, ..., height, width).
    """
    aligned = []
    for mask in masks:
        if resize == "pad":
            right, bottom = size[1] - mask.shape[-1], size[0] - mask.shape[-2]
            aligned.append(F.pad(mask, (0, right, 0, bottom), value=ignored))
        else:
            aligned.append(resize_mask(mask, size))
    return torch.stack(aligned).to(torch.int64)


def _nearest(length: int, new_length: int) -> Tensor:
    """Return for each new pixel the index of the old pixel that contains its center."""
    centers = (torch.arange(new_length, dtype=torch.float64) + 0.5) * (length / new_length)
    return centers.to(torch.int64).clamp(max=length - 1)

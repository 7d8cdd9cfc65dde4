"""Masks on the grid of the network's input, so that loss and image speak of the same places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a mask by taking the nearest pixel's value.

    Pixels are compared by their centers, as the bilinear resize of images does; PyTorch's plain
    ``"nearest"`` would shift masks by up to half a pixel.

    Args:
        mask: Whole numbers (..., H, W).
        size: Height and width to produce.

    Returns:
        The same type, (..., height, width).
    """
    if mask.shape[-2:] == size:
        return mask
    rows, columns = (_nearest(n, m) for n, m in zip(mask.shape[-2:], size, strict=True))
    return mask[..., rows.to(mask.device)[:, None], columns.to(mask.device)]


def on_input(
    masks: Tensor | Sequence[Tensor], size: tuple[int, int], resize: str, ignored: int
) -> Tensor:
    """Bring masks to where the network sees their images.

    Args:
        masks: Whole numbers (..., H, W) of each image, of any size; those that are on the
            input's grid already stay as they are.
        size: Height and width of the network's input.
        resize: How images got there: ``"stretch"``, or ``"pad"``, which fills up on the right
            and at the bottom.
        ignored: Value of pixels that do not count.

    Returns:
        int64 (N, ..., height, width).
    """
    placed = []
    for mask in masks:
        if resize == "pad":
            right, bottom = size[1] - mask.shape[-1], size[0] - mask.shape[-2]
            placed.append(F.pad(mask, (0, right, 0, bottom), value=ignored))
        else:
            placed.append(resize_mask(mask, size))
    return torch.stack(placed).to(torch.int64)


def _nearest(length: int, wanted: int) -> Tensor:
    """Give for each new pixel the old one in which its center lies."""
    places = (torch.arange(wanted, dtype=torch.float64) + 0.5) * (length / wanted)
    return places.to(torch.int64).clamp(max=length - 1)


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate logits as the core does before decoding.

    Args:
        logits: (N, C, h, w).
        size: Height and width to produce.

    Returns:
        (N, C, height, width).
    """
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

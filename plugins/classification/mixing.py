"""Mixing of the images of a batch (mixup, CutMix)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2


def mix_batch(
    images: Tensor, targets: Tensor, *, classes: int, mixup: float, cutmix: float
) -> tuple[Tensor, Tensor]:
    """Mix each image of a batch, and its target, with its neighbor.

    Args:
        images: float (N, C, height, width).
        targets: int64 (N,) class ids or float (N, classes).
        classes: Number of classes.
        mixup: Parameter of the Beta distribution of the mixing ratio; 0 for none.
        cutmix: The same for the area that is pasted from the neighbor; 0 for none. With both,
            one of the two is chosen at random for each batch.

    Returns:
        Mixed images and float (N, classes) targets; both unchanged if both parameters are 0.
    """
    transforms: list[Any] = []
    if mixup:
        transforms.append(v2.MixUp(alpha=mixup, num_classes=classes))
    if cutmix:
        transforms.append(v2.CutMix(alpha=cutmix, num_classes=classes))
    if not transforms:
        return images, targets
    chosen = transforms[int(torch.randint(len(transforms), ()))]
    mixed: tuple[Tensor, Tensor] = chosen(images, targets)
    return mixed

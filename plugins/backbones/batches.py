"""Empty batches, which the layers of some libraries cannot be run on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from visiongraft.backbone import Features


def features_of_any_number(forward: Callable[[Tensor], Features], images: Tensor) -> Features:
    """Compute features of a batch that may be empty.

    Args:
        forward: Function from at least one image to features.
        images: float (N, C, H, W), N from 0.
    """
    if len(images) or torch.compiler.is_exporting():
        return forward(images)
    maps, pooled = forward(images.new_zeros(1, *images.shape[1:]))
    return Features(tuple(each[:0] for each in maps), pooled[:0])

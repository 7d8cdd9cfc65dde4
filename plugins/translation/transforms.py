"""Augmentation of training images together with the images that they become."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from visiongraft.plugins.dense.regions import crop, random_region

ZOOM = (1.0, 1.5)


class PairTransform:
    """Zoom into a random region of both images alike, and flip them alike.

    Colors are not changed: in which way a target's would have to change depends on the data. Where a
    region exceeds small images, both are filled with black.

    Args:
        size: Height and width to produce, in pixels.
        flip: Flip half of the pairs horizontally.
        whole: Whether zoom 1 shows the whole image, resized to ``size``; otherwise regions are crops of
            that size, at the original scale.
    """

    def __init__(self, size: tuple[int, int], flip: bool, whole: bool) -> None:
        self.size, self.flip, self.whole = size, flip, whole

    def __call__(self, image: Any, target: Any) -> tuple[Tensor, Tensor]:
        """Augment a pair.

        Args:
            image: ``tv_tensors.Image``, uint8 (C, H, W).
            target: Its target, uint8 (H, W, 3).

        Returns:
            The image, uint8 (C, height, width), and the target, uint8 (height, width, 3).
        """
        pixels = image.as_subclass(Tensor)
        both = torch.cat([pixels, torch.as_tensor(target).permute(2, 0, 1)])
        given = (both.shape[-2], both.shape[-1])
        shown, zoom = (given, ZOOM) if self.whole else (self.size, (1.0, 1.0))
        region = random_region(given, shown, zoom, aspect=1.0)
        both = tv.resize(crop(both, region, 0.0), list(self.size), antialias=True)
        if self.flip and float(torch.rand(())) < 0.5:
            both = both.flip(-1)
        count = pixels.shape[0]
        return both[:count].contiguous(), both[count:].permute(1, 2, 0).contiguous()

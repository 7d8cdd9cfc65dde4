"""Augmentation of training images and of their targets, together or each by itself."""

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
        both = _changed(both, self.size, self.flip, self.whole)
        count = pixels.shape[0]
        return both[:count].contiguous(), both[count:].permute(1, 2, 0).contiguous()


class UnpairedTransform:
    """Zoom into a random region of an image and of one of its targets, each by itself, and flip them.

    Args:
        size: Height and width to produce, in pixels.
        flip: Flip half of the images horizontally.
    """

    def __init__(self, size: tuple[int, int], flip: bool) -> None:
        self.size, self.flip = size, flip

    def __call__(self, image: Any, targets: Any) -> tuple[Tensor, tuple[Tensor]]:
        """Augment an image, and one of its targets.

        Args:
            image: ``tv_tensors.Image``, uint8 (C, H, W).
            targets: Images, uint8 (H, W, 3), at least one.

        Returns:
            The image, uint8 (C, height, width), and a target, uint8 (height, width, 3), as a tuple.
        """
        chosen = targets[int(torch.randint(len(targets), ()))]
        target = torch.as_tensor(chosen).permute(2, 0, 1)
        one, other = (
            _changed(pixels, self.size, self.flip, whole=True)
            for pixels in (image.as_subclass(Tensor), target)
        )
        return one.contiguous(), (other.permute(1, 2, 0).contiguous(),)


def _changed(pixels: Tensor, size: tuple[int, int], flip: bool, whole: bool) -> Tensor:
    """Zoom into a random region of images (C, H, W), and flip half of them; see ``PairTransform``."""
    given = (pixels.shape[-2], pixels.shape[-1])
    shown, zoom = (given, ZOOM) if whole else (size, (1.0, 1.0))
    region = random_region(given, shown, zoom, aspect=1.0)
    changed: Tensor = tv.resize(crop(pixels, region, 0.0), list(size), antialias=True)
    return changed.flip(-1) if flip and float(torch.rand(())) < 0.5 else changed

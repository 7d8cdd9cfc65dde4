"""Augmentation of training images together with their masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from visiongraft.plugins.dense.regions import Region, crop, random_region
from visiongraft.plugins.segmentation.models.geometry import resize_mask

AUGMENTATIONS = ("none", "light", "strong")
ZOOM = {"light": (0.8, 1.5), "strong": (0.5, 2.0)}


class TrainTransform:
    """Zoom into or out of a random region, flip it, and change its colors.

    ``"light"`` zooms by a factor of 0.8 to 1.5 and changes brightness, contrast and saturation by
    up to 20 %. ``"strong"`` zooms by 0.5 to 2, changes colors by up to 40 %, hue too, and blurs
    some images. The area outside of an image is filled with its mean color and ignored in the
    mask. The colors of images with other than 1 or 3 channels are not changed.

    Args:
        size: Height and width to produce, in pixels.
        strength: ``"light"`` or ``"strong"``.
        flip: Flip half of the images horizontally.
        ignored: Mask value of ignored pixels.
        whole: Whether zoom 1 shows the whole image, resized to ``size``; otherwise it shows a crop
            of that size at the original scale.
    """

    def __init__(
        self, size: tuple[int, int], strength: str, flip: bool, ignored: int, whole: bool = True
    ) -> None:
        self.size, self.flip, self.ignored, self.whole = size, flip, ignored, whole
        self.zoom = ZOOM[strength]
        self.colors: Any = v2.ColorJitter(0.2, 0.2, 0.2)
        if strength == "strong":
            blur = v2.RandomApply([v2.GaussianBlur(5, (0.1, 2.0))], 0.2)
            self.colors = v2.Compose([v2.ColorJitter(0.4, 0.4, 0.4, 0.05), blur])

    def __call__(self, image: Any, target: Any) -> tuple[Any, Any]:
        """Augment one image.

        Args:
            image: ``tv_tensors.Image``, uint8 (C, H, W).
            target: Its mask, an integer array (..., H, W).

        Returns:
            The image, uint8 (C, height, width), and the mask, a ``tv_tensors.Mask`` of the
            target's type, (..., height, width).
        """
        mask = torch.from_numpy(target) if not isinstance(target, Tensor) else target
        pixels = image.as_subclass(Tensor)
        region = self._region(pixels.shape[-2], pixels.shape[-1])
        color = pixels.float().mean((1, 2)).round().tolist()
        layers = [
            crop(layer[None], region, value) for layer, value in zip(pixels, color, strict=True)
        ]
        pixels = tv.resize(torch.cat(layers), list(self.size), antialias=True)
        mask = resize_mask(crop(mask, region, self.ignored), self.size)
        if self.flip and float(torch.rand(())) < 0.5:
            pixels, mask = pixels.flip(-1), mask.flip(-1)
        changed = tv_tensors.Image(pixels)
        if pixels.shape[0] in (1, 3):
            changed = self.colors(changed)
        return changed, tv_tensors.Mask(mask)

    def _region(self, height: int, width: int) -> Region:
        image = (height, width)
        return random_region(image, image if self.whole else self.size, self.zoom)

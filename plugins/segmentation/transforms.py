"""Augmentation of training images together with their masks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from visiongraft.plugins.segmentation.models.geometry import resize_mask

AUGMENTATIONS = ("none", "light", "strong")
ZOOM = {"light": (0.8, 1.5), "strong": (0.5, 2.0)}
ASPECT = 1.15  # maximum change of the aspect ratio


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
            _crop(layer[None], region, value) for layer, value in zip(pixels, color, strict=True)
        ]
        pixels = tv.resize(torch.cat(layers), list(self.size), antialias=True)
        mask = resize_mask(_crop(mask, region, self.ignored), self.size)
        if self.flip and float(torch.rand(())) < 0.5:
            pixels, mask = pixels.flip(-1), mask.flip(-1)
        changed = tv_tensors.Image(pixels)
        if pixels.shape[0] in (1, 3):
            changed = self.colors(changed)
        return changed, tv_tensors.Mask(mask)

    def _region(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Sample top, left, height and width of the region, which may exceed the image."""
        low, high = (math.log(value) for value in self.zoom)
        zoom = math.exp(low + (high - low) * float(torch.rand(())))
        aspect = ASPECT ** (2 * float(torch.rand(())) - 1)
        base = (height, width) if self.whole else self.size
        rows = max(round(base[0] / zoom * math.sqrt(aspect)), 1)
        columns = max(round(base[1] / zoom / math.sqrt(aspect)), 1)
        return _start(height, rows), _start(width, columns), rows, columns


def _start(length: int, shown: int) -> int:
    low, high = min(0, length - shown), max(0, length - shown)
    return low + int(torch.randint(high - low + 1, ()))


def _crop(values: Tensor, region: tuple[int, int, int, int], fill: float) -> Tensor:
    """Crop a region of (..., H, W), padding it outside of the image."""
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

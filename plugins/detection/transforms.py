"""Random changes of training images together with their boxes, on torchvision's tv_tensors."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from visiongraft.plugins.detection.objects import Objects

AUGMENTATIONS = ("none", "light", "strong")
SMALLEST = 1.0  # pixel; narrower remains of boxes are left out
SPARE = 2  # images are shrunk to at most so many times the network's size before all else


class TrainTransform:
    """Crop, flip and change colors; boxes go with the image.

    ``"light"`` puts half of the images on a larger gray ground, up to 1.4 times as wide, crops
    half of them to no less than 70 % of a side, flips, and changes brightness, contrast and
    saturation by up to 20 %. ``"strong"`` is what SSD was made with (Liu et al., 2016): a ground up
    to three times as wide, crops that keep a drawn share of some object, and distorted colors.
    Where images have other than 3 channels, colors are left alone.

    Args:
        size: Height and width to produce, in pixels.
        strength: ``"light"`` or ``"strong"``.
        flip: Mirror half of the images, left to right.
    """

    def __init__(self, size: tuple[int, int], strength: str, flip: bool = True) -> None:
        strong = strength == "strong"
        self.size = size
        # Light crops only keep the middle of some object within. Those that ask for a share of it
        # enlarge objects far more often than the larger ground makes them smaller.
        steps: list[Any] = [
            v2.RandomZoomOut(fill=128, side_range=(1.0, 3.0 if strong else 1.4)),
            v2.RandomIoUCrop(trials=20)
            if strong
            else v2.RandomIoUCrop(min_scale=0.7, sampler_options=[0.0, 1.0], trials=20),
            v2.Resize(size, antialias=True),
        ]
        if flip:
            steps.append(v2.RandomHorizontalFlip())
        # Rounding may put a box a hair outside, which the last step would take for damaged.
        steps += [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=SMALLEST)]
        self._geometry = v2.Compose(steps)
        self._colors = (
            v2.RandomPhotometricDistort()
            if strong
            else v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)
        )

    def __call__(self, image: Any, target: Objects) -> tuple[Any, Objects]:
        """Change one image.

        Args:
            image: ``tv_tensors.Image``, uint8 (C, H, W).
            target: The objects in it.

        Returns:
            The image, uint8 (C, height, width), and its objects without crowd regions.
        """
        own = target.single()
        boxes = tv_tensors.BoundingBoxes(
            torch.tensor(own.boxes, dtype=torch.float32).view(-1, 4),
            format="XYXY",
            canvas_size=own.size if own.boxes else image.shape[-2:],
        )
        labels = torch.tensor(own.labels, dtype=torch.int64)
        sample = self._shrunk({"image": image, "boxes": boxes, "labels": labels})
        sample = self._geometry(sample)
        image = sample["image"]
        if image.shape[-3] == 3:
            image = self._colors(image)
        found = [tuple(box) for box in sample["boxes"].tolist()]
        areas = tuple((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in found)
        ids = tuple(sample["labels"].tolist())
        return image, Objects(tuple(found), ids, self.size, (False,) * len(found), areas)

    def _shrunk(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Shrink large images first, since every other step takes time by their pixels."""
        height, width = sample["image"].shape[-2:]
        size = [min(height, SPARE * self.size[0]), min(width, SPARE * self.size[1])]
        if size == [height, width]:
            return sample
        sample["image"] = F.resize(sample["image"], size, antialias=True)
        sample["boxes"] = F.resize(sample["boxes"], size)
        return sample

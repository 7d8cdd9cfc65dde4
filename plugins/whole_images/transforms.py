"""Augmentation of training images whose targets belong to all of the image."""

from __future__ import annotations

from typing import Any

from torchvision.transforms import v2

AUGMENTATIONS = ("none", "light", "strong")


class TrainTransform:
    """Random crop, flip and color changes; the target is left unchanged.

    ``"light"`` takes crops of 50 to 100 % of the image's area and changes brightness, contrast
    and saturation by up to 20 %. ``"strong"`` takes 25 to 100 % and adds two RandAugment
    operations. Images with other than 1 or 3 channels have no colors to change: ``"strong"``
    translates, shears and rotates them instead.

    Args:
        size: Height and width to produce, in pixels.
        strength: ``"light"`` or ``"strong"``.
        flip: Flip half of the images horizontally.
    """

    def __init__(self, size: tuple[int, int], strength: str, flip: bool = True) -> None:
        strong = strength == "strong"
        geometry: list[Any] = [
            v2.RandomResizedCrop(size, scale=(0.25 if strong else 0.5, 1.0), antialias=True)
        ]
        if flip:
            geometry.append(v2.RandomHorizontalFlip())
        colors: list[Any] = [v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)]
        affine: list[Any] = []
        if strong:
            colors.append(v2.RandAugment())
            affine.append(v2.RandomAffine(degrees=20, translate=(0.1, 0.1), shear=10))
        self._with_colors = v2.Compose([*geometry, *colors])
        self._without_colors = v2.Compose([*geometry, *affine])

    def __call__(self, image: Any, target: Any) -> tuple[Any, Any]:
        """Augment one image.

        Args:
            image: ``tv_tensors.Image``, uint8 (C, H, W).
            target: Its target.

        Returns:
            The image, uint8 (C, height, width), and the same target.
        """
        colored = image.shape[-3] in (1, 3)
        return (self._with_colors if colored else self._without_colors)(image), target

"""Augmentations of training images that keep the face in place."""

from __future__ import annotations

from typing import Any

from torchvision.transforms import v2

AUGMENTATIONS = ("none", "light", "strong")


class TrainTransform:
    """Flip, shift, rotate and scale faces slightly, and vary the lighting; keep the target.

    ``"light"`` rotates by up to 5 degrees, shifts by up to 3% and scales by up to 5%, and changes
    brightness and contrast by up to 20%. ``"strong"`` rotates by up to 15 degrees, shifts by up to
    8% and scales by up to 15%, changes brightness, contrast and saturation by up to 40%, blurs 10%
    of the images, converts 10% to grayscale, and erases a part of 25%. Images with other than 1 or
    3 channels have no colors, which are then left unchanged.

    Args:
        size: Height and width of the result in pixels.
        strength: ``"light"`` or ``"strong"``.
        flip: Whether to flip half of the images horizontally.
    """

    def __init__(self, size: tuple[int, int], strength: str, flip: bool = True) -> None:
        strong = strength == "strong"
        degrees, shift, scale, light = (15, 0.08, 0.15, 0.4) if strong else (5, 0.03, 0.05, 0.2)
        geometry: list[Any] = [v2.Resize(size, antialias=True)]
        if flip:
            geometry.append(v2.RandomHorizontalFlip())
        geometry.append(
            v2.RandomAffine(
                degrees,
                translate=(shift, shift),
                scale=(1 - scale, 1 + scale),
                interpolation=v2.InterpolationMode.BILINEAR,
            )
        )
        colors: list[Any] = [
            v2.ColorJitter(brightness=light, contrast=light, saturation=light if strong else 0)
        ]
        erasing: list[Any] = []
        if strong:
            colors.append(v2.RandomGrayscale(0.1))
            colors.append(v2.RandomApply([v2.GaussianBlur(5, sigma=(0.5, 1.5))], p=0.1))
            erasing.append(v2.RandomErasing(0.25, scale=(0.02, 0.15)))
        self._with_colors = v2.Compose([*geometry, *colors, *erasing])
        self._without_colors = v2.Compose([*geometry, *erasing])

    def __call__(self, image: Any, target: Any) -> tuple[Any, Any]:
        """Augment one image.

        Args:
            image: ``tv_tensors.Image``, uint8 (C, H, W).
            target: Its target.

        Returns:
            The augmented image, uint8 (C, height, width), and the same target.
        """
        colored = image.shape[-3] in (1, 3)
        return (self._with_colors if colored else self._without_colors)(image), target

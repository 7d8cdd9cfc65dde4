"""Differentiable augmentation of what a critic sees, for training on few images.

Real and generated images are changed alike, and gradients pass to the generator, so that the critic
cannot learn the few real images one by one, while the generator learns no augmented images
(Zhao et al., 2020, "Differentiable Augmentation for Data-Efficient GAN Training").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, kinds: Iterable[str]) -> Tensor:
    """Augment images at random, with operators that gradients pass.

    Args:
        images: float (N, C, height, width), normalized so that 0 is a mean color.
        kinds: Names in ``AUGMENTATIONS``, in the order in which they are applied.

    Returns:
        Images of the same shape, each changed in its own way.
    """
    for kind in kinds:
        images = AUGMENTATIONS[kind](images)
    return images


def _color(images: Tensor) -> Tensor:
    """Change brightness, saturation and contrast."""
    count = len(images)
    images = images + _uniform(images, (count, 1, 1, 1), -0.5, 0.5)
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * _uniform(images, (count, 1, 1, 1), 0.0, 2.0)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * _uniform(images, (count, 1, 1, 1), 0.5, 1.5)


def _translation(images: Tensor) -> Tensor:
    """Move images by up to an eighth of their sides and fill up with 0."""
    count, _, height, width = images.shape
    down, right = round(height / 8), round(width / 8)
    padded = F.pad(images, (right, right, down, down))
    tops = torch.randint(0, 2 * down + 1, (count, 1, 1, 1), device=images.device)
    lefts = torch.randint(0, 2 * right + 1, (count, 1, 1, 1), device=images.device)
    rows = (tops + _axis(images, 2)).expand(-1, images.shape[1], -1, padded.shape[3])
    columns = (lefts + _axis(images, 3)).expand(-1, images.shape[1], height, -1)
    return padded.gather(2, rows).gather(3, columns)


def _cutout(images: Tensor) -> Tensor:
    """Set a rectangle of half of the height and width to 0, which may reach over the border."""
    count, _, height, width = images.shape
    top = torch.randint(0, height, (count, 1, 1, 1), device=images.device) - height // 4
    left = torch.randint(0, width, (count, 1, 1, 1), device=images.device) - width // 4
    rows, columns = _axis(images, 2), _axis(images, 3)
    inside = (rows >= top) & (rows < top + height // 2)
    inside = inside & (columns >= left) & (columns < left + width // 2)
    return images * ~inside


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def _uniform(like: Tensor, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    values = torch.rand(shape, device=like.device, dtype=like.dtype)
    return low + (high - low) * values


def _axis(images: Tensor, axis: int) -> Tensor:
    """Return the positions along an axis, shaped to be combined with images."""
    shape = [1] * images.ndim
    shape[axis] = -1
    return torch.arange(images.shape[axis], device=images.device).view(shape)

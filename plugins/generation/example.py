"""Synthetic images: bright discs on dark ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLORS = ((230, 60, 40), (240, 200, 40))


def make_dataset(folder: Path, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Make images in memory.

    Args:
        folder: Not used.
        count: Number of images.
        seed: Seed of the images.

    Returns:
        Data for ``Generation.read``: uint8 (H, W, 3) of several sizes.
    """
    random = np.random.default_rng(seed)
    return [_image(random, COLORS[i % len(COLORS)]) for i in range(count)]


def _image(random: np.random.Generator, color: tuple[int, int, int]) -> NDArray[np.uint8]:
    height, width = (int(side) for side in random.integers(24, 40, 2))
    rows, columns = np.mgrid[:height, :width]
    top, left = random.uniform(0.4, 0.6, 2) * (height, width)
    disc = np.hypot(rows - top, columns - left) < min(height, width) / 3
    image = random.integers(10, 30, (height, width, 3))
    image[disc] = np.array(color) + random.integers(-10, 11, (int(disc.sum()), 3))
    return image.clip(0, 255).astype(np.uint8)

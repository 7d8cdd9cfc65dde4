"""Synthetic pairs: soft images, and their negatives with two colors exchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from visiongraft.saving.files import write_png

SIZES = ((24, 40), (41, 29), (36, 36), (24, 40), (28, 56))  # height and width
GRID = 4  # random colors along each side, between which images are smooth


def write_example(folder: Path, count: int, seed: int, reverse: bool = False) -> Path:
    """Write images that hold input and target side by side.

    Args:
        folder: Output folder.
        count: Number of images.
        seed: Seed of the images.
        reverse: Whether the input is on the right.

    Returns:
        Data for ``Translation.read``.
    """
    random = np.random.default_rng(seed)
    for i in range(count):
        height, width = SIZES[i % len(SIZES)]
        grid = random.integers(0, 256, (GRID, GRID, 3)).astype(np.uint8)
        image = np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
        pair = [image, 255 - image[..., ::-1]]
        joined = np.concatenate(pair[::-1] if reverse else pair, axis=1)
        write_png(folder / f"{i:03d}.png", Image.fromarray(joined))
    return folder

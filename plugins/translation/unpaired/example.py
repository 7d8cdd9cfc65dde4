"""Synthetic images of two kinds: dark and bluish ones, light and reddish ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from visiongraft.plugins.translation.example import GRID, SIZES
from visiongraft.saving.files import write_png

LOWEST = {"A": (0, 30, 90), "B": (170, 110, 20)}  # red, green and blue
RANGE = 80  # of each color


def write_example(folder: Path, count: int, seed: int) -> Path:
    """Write folders ``A`` and ``B`` of soft images.

    Args:
        folder: Output folder.
        count: Number of images of each kind.
        seed: Seed of the images.

    Returns:
        Data for ``UnpairedTranslation.read``.
    """
    random = np.random.default_rng(seed)
    for kind, lowest in LOWEST.items():
        for i in range(count):
            height, width = SIZES[i % len(SIZES)]
            grid = (random.integers(0, RANGE, (GRID, GRID, 3)) + lowest).astype(np.uint8)
            image = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
            write_png(folder / kind / f"{kind}{i:03d}.png", image)
    return folder

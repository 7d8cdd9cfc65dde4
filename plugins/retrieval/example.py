"""Synthetic images with captions: squares of a color on a background of another."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from visiongraft.saving.files import write_bytes, write_png

COLORS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 50, 220),
    "yellow": (230, 220, 30),
}


def write_table(folder: Path, count: int, seed: int) -> Path:
    """Write images with captions, and a table of them; those with a red square have two captions.

    Args:
        folder: Output folder.
        count: Number of images.
        seed: Seed of the images.

    Returns:
        Data for ``Retrieval.read``.
    """
    random = np.random.default_rng(seed)
    names = list(COLORS)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "caption"])
    for i in range(count):
        color = names[i % len(names)]
        height, width = (int(side) for side in random.integers(24, 60, 2))
        pixels = random.integers(60, 120, (height, width, 3))
        pixels[height // 5 :, width // 5 :] = np.array(COLORS[color]) - random.integers(0, 20, 3)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        write_png(folder / f"{i:03d}.png", image)
        writer.writerow([f"{i:03d}.png", f"a {color} square"])
        if color == names[0]:
            writer.writerow([f"{i:03d}.png", f"something {color}"])
    write_bytes(folder / "captions.csv", table.getvalue().encode())
    return folder / "captions.csv"

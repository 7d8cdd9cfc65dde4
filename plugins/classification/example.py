"""Synthetic classification data: one color per class, in images of many sizes."""

from __future__ import annotations

import colorsys
import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from visiongraft.saving.files import write_bytes, write_png

COLORS = ("blue", "green", "red")


def write_folder(folder: Path, count: int, seed: int, class_names: tuple[str, ...]) -> Path:
    """Write single-label images, in one folder per class.

    Args:
        folder: Output folder.
        class_names: Class names; names of colors if empty.
        count: Number of images, spread evenly over the classes.
        seed: Seed of the images.

    Returns:
        Data for ``Classification.read``.
    """
    names = class_names or COLORS
    random = np.random.default_rng(seed)
    for i in range(count):
        name = names[i % len(names)]
        write_png(folder / name / f"{i:03d}.png", _image(random, [i % len(names)], len(names)))
    return folder


def write_table(folder: Path, count: int, seed: int, class_names: tuple[str, ...]) -> Path:
    """Write multi-label images, every fifth without labels, and a table of them.

    Args:
        folder: Output folder.
        class_names: Class names; names of colors if empty.
        count: Number of images.
        seed: Seed of the images.

    Returns:
        Data for ``Classification.read``.
    """
    names = class_names or COLORS
    random = np.random.default_rng(seed)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "labels"])
    for i in range(count):
        own = [] if i % 5 == 4 else sorted({i % len(names), (i // 2) % len(names)})
        write_png(folder / f"{i:03d}.png", _image(random, own, len(names)))
        writer.writerow([f"{i:03d}.png", ";".join(names[label] for label in own)])
    write_bytes(folder / "images.csv", table.getvalue().encode())
    return folder / "images.csv"


def _image(random: np.random.Generator, labels: list[int], count: int) -> Image.Image:
    """Draw noise with one stripe in the color of each class."""
    height, width = (int(side) for side in random.integers(20, 60, 2))
    pixels = random.integers(60, 120, (height, width, 3))
    for stripe, label in enumerate(labels):
        rows = slice(stripe * height // len(labels), (stripe + 1) * height // len(labels))
        color = np.array(colorsys.hsv_to_rgb((count - 1 - label) / count, 1, 1))
        pixels[rows] = pixels[rows] // 2 + (180 * color).astype(int)
    return Image.fromarray(pixels.astype(np.uint8))

"""Example data of classification: one colour per label, in pictures of many sizes."""

from __future__ import annotations

import colorsys
import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from visiongraft.saving.files import write_bytes

COLOURS = ("blue", "green", "red")


def write_folder(folder: Path, labels: tuple[str, ...], pictures: int, seed: int) -> Path:
    """Write pictures of one label each, in one folder per label.

    Args:
        folder: Where to.
        labels: Label names; colours if empty.
        pictures: How many, spread evenly over the labels.
        seed: Another seed gives other pictures.

    Returns:
        What ``Classification.read`` takes.
    """
    names = labels or COLOURS
    random = np.random.default_rng(seed)
    for i in range(pictures):
        name = names[i % len(names)]
        content = _picture(random, [i % len(names)], len(names))
        write_bytes(folder / name / f"{i:03d}.png", content)
    return folder


def write_table(folder: Path, labels: tuple[str, ...], pictures: int, seed: int) -> Path:
    """Write pictures of any number of labels, every fifth without any, and a table of them.

    Args:
        folder: Where to.
        labels: Label names; colours if empty.
        pictures: How many.
        seed: Another seed gives other pictures.

    Returns:
        What ``Classification.read`` takes.
    """
    names = labels or COLOURS
    random = np.random.default_rng(seed)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "labels"])
    for i in range(pictures):
        own = [] if i % 5 == 4 else sorted({i % len(names), (i // 2) % len(names)})
        write_bytes(folder / f"{i:03d}.png", _picture(random, own, len(names)))
        writer.writerow([f"{i:03d}.png", ";".join(names[label] for label in own)])
    write_bytes(folder / "pictures.csv", table.getvalue().encode())
    return folder / "pictures.csv"


def _picture(random: np.random.Generator, labels: list[int], count: int) -> bytes:
    """Draw noise with one stripe in the colour of each label."""
    height, width = (int(side) for side in random.integers(20, 60, 2))
    pixels = random.integers(60, 120, (height, width, 3))
    for stripe, label in enumerate(labels):
        rows = slice(stripe * height // len(labels), (stripe + 1) * height // len(labels))
        colour = np.array(colorsys.hsv_to_rgb((count - 1 - label) / count, 1, 1))
        pixels[rows] = pixels[rows] // 2 + (180 * colour).astype(int)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "png")
    return file.getvalue()

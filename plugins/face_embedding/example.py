"""Example data of face embedding: drawn heads whose shapes and colors identify them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from visiongraft.saving.files import write_png

IMAGES_PER_IDENTITY = 3


def write_folder(folder: Path, count: int, seed: int) -> Path:
    """Write images of drawn heads, one folder per identity.

    Args:
        folder: Folder to write to.
        count: Number of images, three per identity.
        seed: Seed of the images; another seed draws other images of the same identities.

    Returns:
        The folder, which ``FaceEmbedding.read`` accepts.
    """
    random = np.random.default_rng(seed)
    for i in range(count):
        person, image = divmod(i, IMAGES_PER_IDENTITY)
        write_png(folder / f"person{person:02d}" / f"{image}.png", draw_head(person, random))
    return folder


def draw_head(person: int, random: np.random.Generator) -> Image.Image:
    """Draw a head.

    Args:
        person: Number of the person, which determines skin, hair, eyes and mouth.
        random: Generator that varies size, position, lighting and background.

    Returns:
        The image, RGB.
    """
    traits = np.random.default_rng(10_000 + person)
    skin, hair, eyes = (tuple(int(c) for c in traits.integers(40, 250, 3)) for _ in range(3))
    wide, fringe, apart, mouth = traits.uniform((0.6, 0.1, 0.15, 0.1), (0.9, 0.4, 0.3, 0.35))
    height, width = (int(side) for side in random.integers(36, 60, 2))
    background = tuple(int(c) for c in random.integers(0, 256, 3))
    image = Image.new("RGB", (width, height), background)
    draw = ImageDraw.Draw(image)
    across, down = random.uniform(-0.04, 0.04, 2)

    def box(left: float, top: float, right: float, bottom: float) -> list[float]:
        return [
            (left + across) * width,
            (top + down) * height,
            (right + across) * width,
            (bottom + down) * height,
        ]

    draw.ellipse(box(0.5 - wide / 2, 0.02, 0.5 + wide / 2, 0.98), fill=skin)
    draw.chord(box(0.5 - wide / 2, 0.02, 0.5 + wide / 2, 0.04 + 2 * fringe), 180, 360, fill=hair)
    for side in (-1, 1):
        middle = 0.5 + side * apart
        draw.ellipse(box(middle - 0.07, 0.4, middle + 0.07, 0.5), fill=eyes)
    draw.rectangle(box(0.5 - mouth, 0.7, 0.5 + mouth, 0.78), fill=hair)
    light = random.uniform(0.85, 1.1)
    pixels = np.asarray(image) * light + random.normal(0, 4, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

"""Synthetic segmentation data: discs and squares on noise, in images of many sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from visiongraft.saving.files import write_bytes, write_png

SHAPES = ("disc", "square")
COLORS = ("red", "blue")
SIZES = ((24, 40), (41, 29), (36, 36), (24, 40), (28, 56))  # height and width


def write_example(
    folder: Path, count: int, seed: int, class_names: tuple[str, ...], kind: str | None
) -> Path:
    """Write images and masks.

    Args:
        folder: Output folder.
        class_names: Class names; names of the shapes if empty.
        kind: See ``Segmentation``; multi-class if ``None``.
        count: Number of images; every fifth shows no shape.
        seed: Seed of the images.

    Returns:
        Data for ``Segmentation.read``.
    """
    random = np.random.default_rng(seed)
    names = class_names or (SHAPES if kind == "multi_label" else ("background", *SHAPES))
    if kind == "binary":
        names = class_names or ("background", "disc")
    shapes = len(names) if kind == "multi_label" else len(names) - 1
    for i in range(count):
        height, width = SIZES[i % 7 % len(SIZES)]
        pixels = random.integers(60, 140, (height, width, 3)).astype(np.uint8)
        layers = np.zeros((shapes, height, width), np.uint8)
        if i % 5 != 4:
            pixels, layers = _draw_shapes(random, pixels, shapes)
        write_png(folder / "images" / f"{i:03d}.png", Image.fromarray(pixels))
        if kind == "multi_label":
            for name, layer in zip(names, layers, strict=True):
                write_png(folder / "masks" / name / f"{i:03d}.png", Image.fromarray(layer * 255))
        else:
            mask = np.zeros((height, width), np.uint8)
            for value, layer in enumerate(layers, 1):
                mask[layer == 1] = value
            write_png(folder / "masks" / f"{i:03d}.png", Image.fromarray(mask))
    if kind != "multi_label":
        write_bytes(folder / "classes.txt", "\n".join(names).encode())
    return folder


def _draw_shapes(
    random: np.random.Generator, pixels: NDArray[np.uint8], shapes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one shape of each class, side by side."""
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    layers = []
    for i in range(shapes):
        side = int(min(height, width / shapes) * random.uniform(0.6, 0.95))
        left = int(i * width / shapes + random.uniform(0, width / shapes - side))
        top = int(random.uniform(0, height - side))
        layer = Image.new("L", (width, height))
        for canvas, fill in ((image, COLORS[i % 2]), (layer, 1)):
            brush = ImageDraw.Draw(canvas)
            draw = brush.ellipse if i % 2 == 0 else brush.rectangle
            draw((left, top, left + side - 1, top + side - 1), fill=fill)
        layers.append(np.asarray(layer))
    return np.asarray(image), np.stack(layers)

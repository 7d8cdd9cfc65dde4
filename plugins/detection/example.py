"""Example data for detection: bright rectangles on noise, in COCO's format."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visiongraft.saving.files import write_json, write_png

COLORS = ("blue", "green", "red")
EMPTY = 6  # every sixth image has no object


def write_coco(folder: Path, count: int, seed: int, class_names: tuple[str, ...]) -> Path:
    """Write images of one or two rectangles each, one color per class; every sixth is empty.

    Args:
        folder: Folder to write to.
        class_names: Class names; names of colors if empty.
        count: Number of images.
        seed: Seed of the images.

    Returns:
        The annotation file, which ``Detection.read`` accepts.
    """
    names = class_names or COLORS
    random = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(count):
        pixels, boxes = _image(random, i, len(names))
        write_png(folder / f"{i:03d}.png", Image.fromarray(pixels))
        height, width = pixels.shape[:2]
        images.append({"id": i + 1, "file_name": f"{i:03d}.png", "height": height, "width": width})
        for class_id, (x, y, w, h) in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": class_id + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "boxes.json", content)
    return folder / "boxes.json"


def _image(
    random: np.random.Generator, number: int, classes: int
) -> tuple[NDArray[np.uint8], list[tuple[int, tuple[int, int, int, int]]]]:
    """Draw rectangles that do not overlap: of two, each stays in its half of the image."""
    height, width = (int(side) for side in random.integers(30, 60, 2))
    pixels = random.integers(60, 120, (height, width, 3))
    boxes = []
    count = 0 if number % EMPTY == EMPTY - 1 else 1 + number % 2
    for column in range(count):
        class_id = (number + column) % classes
        span = width // count
        w, h = int(span * random.uniform(0.5, 0.8)), int(height * random.uniform(0.4, 0.7))
        x = column * span + int(random.integers(0, span - w + 1))
        y = int(random.integers(0, height - h + 1))
        color = np.array(colorsys.hsv_to_rgb((classes - 1 - class_id) / classes, 1, 1))
        pixels[y : y + h, x : x + w] = 20 + (220 * color).astype(int)
        boxes.append((class_id, (x, y, w, h)))
    return pixels.astype(np.uint8), boxes

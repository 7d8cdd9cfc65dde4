"""COCO keypoint files, one object per image, and drawn images to try the task on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError

PARTS = {"train": "train.json", "validation": "val.json", "test": "test.json"}
KITE = {"id": 1, "name": "kite", "keypoints": ["tip", "right", "tail", "left"]}
CORNERS = np.array([[0, -1], [0.6, -0.2], [0, 1], [-0.6, -0.2]])


@dataclass(frozen=True)
class Target:
    """Points as fractions (x, y) of width and height, ``None`` where hidden; size is (h, w)."""

    names: tuple[str, ...]
    points: tuple[tuple[float, float] | None, ...]
    size: tuple[int, int]


def read_parts(folder: str | Path) -> dict[str, FileSamples]:
    """Read ``train.json``, ``val.json`` and ``test.json`` of a folder, those that there are."""
    found = {p: read_coco(f) for p, n in PARTS.items() for f in Path(str(folder)).glob(n)}
    if not found:
        raise DataError(f"{folder} holds no {', '.join(PARTS.values())} with COCO keypoints")
    return found


def read_coco(file: Path) -> FileSamples:
    """Read one file; its images are beside it."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = tuple(content["categories"][0]["keypoints"])
        rows = {row["image_id"]: row["keypoints"] for row in content["annotations"]}
        images = [(i["file_name"], i["id"], i["width"], i["height"]) for i in content["images"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{file}: no COCO keypoints: {type(error).__name__}: {error}") from error
    if not images or len(rows) != len(content["annotations"]):
        raise DataError(f"{file}: it takes images, each with one object or none")
    targets = []
    for name, number, width, height in images:
        numbers = rows.get(number, [0] * 3 * len(names))
        if len(numbers) != 3 * len(names):
            raise DataError(f"{file}: {name} has {len(numbers)} numbers for {len(names)} points")
        triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        points = tuple((x / width, y / height) if seen else None for x, y, seen in triples)
        targets.append(Target(names, points, (height, width)))
    return FileSamples([file.parent / image[0] for image in images], targets)


def draw_kites(folder: Path, count: int, seed: int, photos=(), part="train") -> Path:
    """Write kites, drawn on the corners of photos if there are any, and their COCO file."""
    random, images, rows = np.random.default_rng(seed), [], []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        w, h = (int(n) for n in random.integers(72, 112, 2))
        photo = photos[i % len(photos)] if photos else random.integers(90, 140, (112, 112, 3))
        image = Image.fromarray(photo[:h, :w].astype(np.uint8))
        turn, radius = random.uniform(-0.8, 0.8), random.uniform(16, 30)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        corners = CORNERS @ rotation * radius + random.uniform(32, (w - 32, h - 32))
        if i % 8:  # every eighth image shows nothing
            ImageDraw.Draw(image).polygon(corners.ravel().tolist(), "yellow", "black", 2)
            flat = np.insert(corners.round(2), 2, 2, axis=1).ravel().tolist()
            rows.append({"id": i, "image_id": i, "category_id": 1, "keypoints": flat})
        images.append({"id": i, "file_name": f"{part}-{i:03d}.png", "width": w, "height": h})
        image.save(folder / images[i]["file_name"])
    content = {"images": images, "annotations": rows, "categories": [KITE]}
    (folder / PARTS[part]).write_text(json.dumps(content), encoding="utf-8")
    return folder

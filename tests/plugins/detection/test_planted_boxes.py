"""Wrong boxes that were planted among drawn shapes are found by detectors that were trained on them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import visiongraft as vg
from visiongraft.mistakes.report import Mistakes

SIDE = 96
SHAPES = ("disk", "square", "triangle")
COLORS = ("orange", "deepskyblue", "limegreen")  # of any shape
FAULTS = ("swapped", "missing", "moved")
WORDS = {  # what is said of each
    "swapped": "may be of another class",
    "missing": "may be without a box",
    "moved": "may lie badly",
}

Boxes = list[tuple[int, list[int]]]  # class and x, y, width, height


def write_shapes(
    folder: Path, counts: dict[str, int], wrong: float, seed: int = 0
) -> dict[str, str]:
    """Write images of two shapes each, with ``instances_train.json`` and ``instances_val.json``.

    Args:
        folder: Folder to write to.
        counts: Number of images by split.
        wrong: Fraction of the images of each split of which one box is wrong.
        seed: Seed of the images and the faults.

    Returns:
        What is wrong by the name of the image: a box of another class, a box that is missing, or one that lies
        badly.
    """
    random = np.random.default_rng(seed)
    planted: dict[str, str] = {}
    (folder / "images").mkdir(parents=True)
    for split, count in counts.items():
        chosen = random.permutation(count)[: round(wrong * count)].tolist()
        images: list[dict[str, Any]] = []
        boxes: list[dict[str, Any]] = []
        for i in range(count):
            name = f"{split}-{i:03}.png"
            own = _image(folder / "images" / name, random)
            if i in chosen:
                planted[name] = FAULTS[chosen.index(i) % len(FAULTS)]
                own = _with_fault(own, planted[name])
            images.append({"id": i + 1, "file_name": name, "height": SIDE, "width": SIDE})
            for label, box in own:
                entry = {"id": len(boxes) + 1, "image_id": i + 1, "category_id": label + 1}
                boxes.append({**entry, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(SHAPES)]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return planted


def _image(path: Path, random: np.random.Generator) -> Boxes:
    """Draw a shape into each half of an image."""
    noise = random.integers(150, 230, (SIDE, SIDE, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    draw, boxes = ImageDraw.Draw(image), []
    for half in range(2):
        label, side = int(random.integers(3)), int(random.integers(24, 40))
        x = half * SIDE // 2 + int(random.integers(0, SIDE // 2 - side))
        y = int(random.integers(0, SIDE - side))
        color = COLORS[int(random.integers(3))]
        area = (x, y, x + side - 1, y + side - 1)
        if SHAPES[label] == "disk":
            draw.ellipse(area, fill=color)
        elif SHAPES[label] == "square":
            draw.rectangle(area, fill=color)
        else:
            draw.polygon([(x, area[3]), (x + side // 2, y), (area[2], area[3])], fill=color)
        boxes.append((label, [x, y, side, side]))
    image.save(path)
    return boxes


def _with_fault(boxes: Boxes, fault: str) -> Boxes:
    (label, box), other = boxes
    if fault == "missing":
        return [other]
    if fault == "swapped":
        return [((label + 1) % len(SHAPES), box), other]
    x, y, width, height = box
    down = y + height + height // 2 <= SIDE
    return [
        (label, [x + width // 4, y + (height // 2 if down else -height // 2), width, height]),
        other,
    ]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A detector on pretrained weights, after a short training on shapes of which 10 % have a wrong box."""
    folder = tmp_path_factory.mktemp("planted")
    faults = write_shapes(folder / "data", {"train": 100, "val": 60}, wrong=0.1)
    model = vg.fit(
        folder / "data", task="detection", size=SIDE, epochs=14, batch_size=8, out=folder / "run",
        device="cpu", callbacks=(),
    )  # fmt: skip
    assert model.facts["metrics"]["AP50"] > 0.8  # accurate, in spite of the wrong boxes
    return folder / "run", faults


def check_faults(found: Mistakes, faults: dict[str, str], share: float) -> None:
    """Most planted faults are among the first, marked, and named for what they are."""
    names = [Path(each.image).name for each in found.labels]
    own = {name: fault for name, fault in faults.items() if name in names}
    first = set(names[: round(1.5 * len(own))]) & own.keys()
    assert len(first) >= share * len(own)
    marked = {Path(each.image).name: each.suggested for each in found.wrong}
    assert len(marked.keys() & own.keys()) >= share * len(own)
    assert len(marked.keys() - own.keys()) <= 0.05 * len(names)
    told = [name for name in marked.keys() & own.keys() if WORDS[own[name]] in marked[name]]
    assert len(told) >= share * len(own)


@pytest.mark.exhaustive
def test_wrong_boxes_of_validation_images_are_found(planted: tuple[Path, dict[str, str]]) -> None:
    run, faults = planted
    found = vg.find_mistakes(run)
    assert len(found.labels) == 60 and "training images were not looked at" in found.left_out[-1]
    check_faults(found, faults, 0.8)


@pytest.mark.exhaustive
def test_wrong_boxes_of_training_images_are_found_by_folds(
    planted: tuple[Path, dict[str, str]],
) -> None:
    run, faults = planted
    found = vg.find_mistakes(run, folds=2)
    assert len(found.labels) == 160
    assert not any("not looked at" in line for line in found.left_out)
    check_faults(found, faults, 0.7)  # each model has half of the images
    folds = sorted((run / "folds").iterdir())
    assert [re.sub(r"^\w+-", "", each.name) for each in folds] == ["1-of-2", "2-of-2"]
    times = [(each / "metrics.jsonl").stat().st_mtime_ns for each in folds]
    assert vg.find_mistakes(run, folds=2) == found  # without training again
    assert [(each / "metrics.jsonl").stat().st_mtime_ns for each in folds] == times

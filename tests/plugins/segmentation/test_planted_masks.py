"""Wrong masks that were planted among drawn shapes are found by networks that were trained on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import visiongraft as vg
from visiongraft.mistakes.report import Mistakes

SIDE = 96
CLASSES = ("background", "disk", "square")
COLORS = ("orange", "deepskyblue", "limegreen")  # of any shape
FAULTS = ("swapped", "missing", "moved")


def write_masks(folder: Path, counts: dict[str, int], wrong: float) -> dict[str, str]:
    """Write images of a disk and a square each; of a fraction of them a part of the mask is wrong.

    Args:
        folder: Folder to write to.
        counts: Number of images by split.
        wrong: Fraction of the images of each split with a wrong mask.

    Returns:
        What is wrong by the name of the image.
    """
    random, planted = np.random.default_rng(0), {}
    for split, count in counts.items():
        chosen = random.permutation(count)[: round(wrong * count)].tolist()
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(count):
            name = f"{split}-{i:03}"
            fault = FAULTS[chosen.index(i) % len(FAULTS)] if i in chosen else ""
            image, mask = _image(random, fault)
            image.save(folder / "images" / split / f"{name}.png")
            mask.save(folder / "masks" / split / f"{name}.png")
            if fault:
                planted[name] = fault
    (folder / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    return planted


def _image(random: np.random.Generator, fault: str) -> tuple[Image.Image, Image.Image]:
    """Draw a disk and a square into the halves of an image, and into its mask with a fault."""
    image = Image.fromarray(random.integers(150, 230, (SIDE, SIDE, 3), dtype=np.uint8))
    mask = Image.new("L", (SIDE, SIDE))
    for label in (1, 2):
        side = int(random.integers(28, 42))
        left = (label - 1) * SIDE // 2 + int(random.integers(0, SIDE // 2 - side))
        top = int(random.integers(0, SIDE - side))
        color = COLORS[int(random.integers(3))]
        _draw(image, label, (left, top), side, color)
        if label == 1 and fault == "missing":
            continue
        if label == 1 and fault == "moved":
            top += side // 2 if top + side + side // 2 <= SIDE else -side // 2
        _draw(mask, label, (left, top), side, 3 - label if fault == "swapped" else label)
    return image, mask


def _draw(
    image: Image.Image, label: int, corner: tuple[int, int], side: int, fill: int | str
) -> None:
    area = (*corner, corner[0] + side - 1, corner[1] + side - 1)
    draw = ImageDraw.Draw(image)
    (draw.ellipse if label == 1 else draw.rectangle)(area, fill=fill)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A network on pretrained weights, after a short training on shapes of which 10 % have a wrong mask."""
    folder = tmp_path_factory.mktemp("planted")
    faults = write_masks(folder / "data", {"train": 60, "val": 40}, wrong=0.1)
    model = vg.fit(
        folder / "data", task="segmentation", size=SIDE, epochs=10, batch_size=8, out=folder / "run",
        device="cpu", callbacks=(),
    )  # fmt: skip
    assert model.facts["metrics"]["mean_iou"] > 0.8  # accurate, in spite of the wrong masks
    return folder / "run", faults


def check_faults(found: Mistakes, faults: dict[str, str]) -> None:
    """Most planted faults are among the first, and marked."""
    names = [Path(each.image).stem for each in found.labels]
    own = {name for name in faults if name in names}
    assert len(set(names[: round(1.5 * len(own))]) & own) >= 0.8 * len(own)
    marked = {Path(each.image).stem for each in found.wrong}
    assert len(marked & own) >= 0.8 * len(own)
    assert len(marked - own) <= 0.05 * len(names)


@pytest.mark.exhaustive
def test_wrong_masks_of_validation_images_are_found(planted: tuple[Path, dict[str, str]]) -> None:
    run, faults = planted
    found = vg.find_mistakes(run)
    assert len(found.labels) == 40
    check_faults(found, faults)


@pytest.mark.exhaustive
def test_wrong_masks_of_training_images_are_found_by_folds(
    planted: tuple[Path, dict[str, str]],
) -> None:
    run, faults = planted
    found = vg.find_mistakes(run, folds=2)
    assert len(found.labels) == 100
    check_faults(found, faults)

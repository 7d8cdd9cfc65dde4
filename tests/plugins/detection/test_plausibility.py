"""Coordinates of another form than the format's are refused or named, and sound ones are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError
from visiongraft.plugins.detection.data import read_evaluation, read_splits
from visiongraft.plugins.detection.formats.dataset import BoxForm, BoxSplit
from visiongraft.plugins.detection.objects import Annotation, Box
from visiongraft.plugins.detection.plausibility import check_plausible

HEIGHT, WIDTH = 48, 64
COCO, YOLO, CORNERS = BoxForm("size"), BoxForm("center", "fractions"), BoxForm()


def random_boxes(count: int, seed: int = 0) -> list[Box]:
    """Return boxes anywhere in an image, of at least a pixel."""
    random = np.random.default_rng(seed)
    boxes: list[Box] = []
    for _ in range(count):
        x1, y1 = random.uniform(0, (WIDTH - 2, HEIGHT - 2))
        x2, y2 = random.uniform((x1 + 2, y1 + 2), (WIDTH, HEIGHT))
        boxes.append((x1, y1, x2, y2))
    return boxes


def split(boxes: Sequence[Box], form: BoxForm = COCO, turned: bool = False) -> BoxSplit:
    paths = [Path(f"{i}.png") for i in range(len(boxes))]
    annotations = [Annotation([box], ["cat"], (HEIGHT, WIDTH), turned=turned) for box in boxes]
    return BoxSplit(FileSamples(paths, [()] * len(paths)), annotations, form)


def as_size(values: Box) -> Box:
    """Read four numbers as x, y, width and height."""
    x, y, width, height = values
    return x, y, x + width, y + height


def as_center(values: Box) -> Box:
    """Read four numbers as YOLO's, in fractions."""
    x, y, width, height = (v * side for v, side in zip(values, (WIDTH, HEIGHT) * 2, strict=True))
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def fractions(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT


def size_of(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return x1, y1, x2 - x1, y2 - y1


def center_of(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


@pytest.mark.parametrize("form", [COCO, YOLO, CORNERS])
@pytest.mark.parametrize("seed", range(20))
def test_sound_boxes_pass_without_a_word(form: BoxForm, seed: int) -> None:
    assert check_plausible(split(random_boxes(30, seed), form), "train") == []


def test_a_few_faulty_boxes_are_no_sign_of_another_form() -> None:
    boxes = [*random_boxes(40), (-5.0, 0.0, 90.0, 60.0), (3.0, 3.0, 3.0, 3.0)]
    assert check_plausible(split(boxes), "train") == []


@pytest.mark.parametrize(
    ("form", "read", "expected"),
    [
        (COCO, lambda b: as_size(b), "do as x1, y1, x2, y2 in pixels"),
        (COCO, lambda b: as_size(size_of(fractions(b))), "x, y, width, height in fractions"),
        (
            COCO,
            lambda b: as_size(center_of(b)),
            "do as center x, center y, width, height in pixels",
        ),
        (YOLO, lambda b: as_center(center_of(b)), "center x, center y, width, height in pixels"),
        (YOLO, lambda b: as_center(fractions(b)), "x1, y1, x2, y2 in fractions"),
        (CORNERS, lambda b: size_of(b), "x, y, width, height in pixels"),
        (CORNERS, lambda b: fractions(b), "x1, y1, x2, y2 in fractions"),
    ],
    ids=[
        "coco-corners",
        "coco-0..1",
        "coco-center",
        "yolo-pixels",
        "yolo-corners",
        "voc",
        "voc-0..1",
    ],
)
def test_boxes_in_another_form_are_refused_and_the_form_is_named(
    form: BoxForm, read: Callable[[Box], Box], expected: str
) -> None:
    with pytest.raises(DataError, match="boxes of the train split do not fit") as caught:
        check_plausible(split([read(box) for box in random_boxes(60)], form), "train")
    assert expected in str(caught.value) and ".png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_few_boxes_in_another_layout_are_a_warning() -> None:
    found = check_plausible(split([as_size((30.0, 20.0, 50.0, 40.0))] * 4), "train")
    assert len(found) == 1 and "do as x1, y1, x2, y2 in pixels" in found[0]
    assert check_plausible(split([as_size((30.0, 20.0, 50.0, 40.0))]), "train") == []


def with_areas(boxes: Sequence[Box], areas: Sequence[float | None]) -> BoxSplit:
    found = split(boxes)
    annotations = [
        replace(each, areas=[area]) for each, area in zip(found.annotations, areas, strict=True)
    ]
    return replace(found, annotations=annotations)


def area(box: Box) -> float:
    x1, y1, x2, y2 = box
    return (x2 - x1) * (y2 - y1)


def test_boxes_whose_listed_areas_are_those_of_another_layout_are_refused() -> None:
    corners = [(x, y, x + 10.0, y + 8.0) for x in (2.0, 7.0, 11.0) for y in (1.0, 5.0)]
    read = [as_size(box) for box in corners]  # fit their images, too
    assert check_plausible(split(read), "train") == []
    with pytest.raises(
        DataError, match="are those of x1, y1, x2, y2 in pixels, not of x, y, width"
    ):
        check_plausible(with_areas(read, [area(box) for box in corners]), "train")


def test_areas_of_outlines_and_of_few_boxes_do_not_matter() -> None:
    boxes = random_boxes(30)
    assert check_plausible(with_areas(boxes, [area(box) * 0.6 for box in boxes]), "train") == []
    assert check_plausible(with_areas(boxes, [None] * 30), "train") == []
    few = [(2.0, 1.0, 12.0, 9.0)] * 2
    assert check_plausible(with_areas([as_size(b) for b in few], [80.0] * 2), "train") == []


def test_boxes_that_are_all_under_a_pixel_are_refused() -> None:
    with pytest.raises(DataError, match="less than a pixel wide and high"):
        check_plausible(split([(30.0, 20.0, 30.5, 20.5)] * 3), "train")


def test_boxes_that_mostly_extend_beyond_their_images_are_a_warning() -> None:
    found = check_plausible(split([(-30.0, -20.0, 90.0, 90.0)] * 12), "train")
    assert len(found) == 1 and "12 of 12 boxes" in found[0]


def test_turned_images_without_a_size_in_the_annotation_are_named() -> None:
    (line,) = check_plausible(split(random_boxes(5), turned=True), "train")
    assert line.startswith("5 images of the train split are rotated or mirrored by EXIF")


def write_yolo(root: Path, lines: str, count: int = 6, exif: int = 1) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for i in range(count):
        image = Image.new("RGB", (WIDTH, HEIGHT), "gray")
        settings = image.getexif()
        settings[0x0112] = exif
        image.save(root / "images" / f"{i}.jpg", exif=settings)
        (root / "labels" / f"{i}.txt").write_text(lines)
    (root / "classes.txt").write_text("cat\n")
    return root


def write_coco(root: Path, bbox: Sequence[float], count: int = 6) -> Path:
    root.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (WIDTH, HEIGHT), "gray").save(root / f"{i}.png")
    content: dict[str, Any] = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH}
            for i in range(count)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": bbox} for i in range(count)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / "boxes.json").write_text(json.dumps(content))
    return root


def test_fractions_in_coco_and_pixels_in_yolo_are_refused_in_training_and_evaluation(
    tmp_path: Path,
) -> None:
    coco = write_coco(tmp_path / "coco", [0.2, 0.3, 0.4, 0.5])
    yolo = write_yolo(tmp_path / "yolo", "0 30 20 20 10\n")
    for data, words in ((coco, r"fractions of the image \(0..1\); convert"), (yolo, "in pixels; ")):
        with pytest.raises(DataError, match=words):
            read_splits(data)
        with pytest.raises(DataError, match=words):
            read_evaluation(data, ("cat",))


def test_turned_images_of_yolo_are_named_in_training_and_evaluation(tmp_path: Path) -> None:
    upright = read_splits(write_yolo(tmp_path / "upright", "0 0.5 0.5 0.2 0.2\n"))
    turned = read_splits(write_yolo(tmp_path / "turned", "0 0.5 0.5 0.2 0.2\n", exif=6))
    assert not any("EXIF" in line for line in upright.warnings)
    evaluated = read_evaluation(tmp_path / "turned", ("cat",))
    for warnings in (turned.warnings, evaluated.warnings):
        assert any("6 images of the train split are rotated" in line for line in warnings)
    assert turned.train.target(0).size == (WIDTH, HEIGHT)

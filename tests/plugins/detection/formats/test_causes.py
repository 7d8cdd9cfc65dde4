"""A dataset without usable boxes is refused with the cause, not with its consequence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visiongraft.errors import DataError
from visiongraft.plugins.detection.data import read_evaluation, read_splits
from visiongraft.plugins.detection.formats.reading import read_boxes


def images(folder: Path, count: int = 4, suffix: str = "jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (60, 40), "gray").save(folder / f"{i}.{suffix}")


def coco(count: int = 4, **changes: Any) -> dict[str, Any]:
    box = {"category_id": 1, "bbox": [6, 4, 24, 20], **changes}
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 60} for i in range(count)
        ],
        "annotations": [{"id": i, "image_id": i, **box} for i in range(count)],
        "categories": [{"id": 1, "name": "cat"}],
    }


def yolo(root: Path, lines: str | None) -> Path:
    images(root / "images")
    (root / "labels").mkdir()
    for i in range(4):
        if lines is not None:
            (root / "labels" / f"{i}.txt").write_text(lines)
    (root / "classes.txt").write_text("cat\n")
    return root


def refusal(data: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_splits(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_crowd_regions_are_named_as_the_cause(tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "boxes.json").write_text(json.dumps(coco(iscrowd=1)))
    assert "nothing to learn: 4 boxes are crowd regions" in refusal(tmp_path)


def test_boxes_outside_of_their_images_are_named_as_the_cause(tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "boxes.json").write_text(json.dumps(coco(bbox=[-90, -90, 20, 20])))
    message = refusal(tmp_path)
    assert "nothing to learn: 4 boxes outside of their image were dropped" in message
    with pytest.raises(
        DataError, match="no image of the train split has a box left to evaluate on"
    ):
        read_evaluation(tmp_path, ("cat",))


def test_missing_label_files_are_named_as_the_cause_and_before_training(tmp_path: Path) -> None:
    root = yolo(tmp_path / "data", None)
    assert "nothing to learn: 4 of 4 images have no label file" in refusal(root)
    for i in range(2):
        (root / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    warnings = read_splits(root).warnings
    assert any("2 of 4 images of the train split have no label file" in w for w in warnings)


def test_annotations_without_boxes_are_named_as_the_cause(tmp_path: Path) -> None:
    assert "nothing to learn: the annotations of 4 images contain no box" in refusal(
        yolo(tmp_path / "yolo", "")
    )
    root = tmp_path / "shapes"
    images(root)
    point = {"label": "cat", "shape_type": "point", "points": [[1, 1]]}
    for i in range(4):
        content = {"shapes": [point], "imageHeight": 40, "imageWidth": 60}
        (root / f"{i}.json").write_text(json.dumps(content))
    message = refusal(root)
    assert "the annotations of 4 images contain no box" in message
    assert "shapes that are not boxes were skipped: 4 'point'" in message


def test_boxes_of_images_that_are_not_listed_are_named_as_the_cause(tmp_path: Path) -> None:
    images(tmp_path)
    content = coco()
    for row in content["annotations"]:
        row["image_id"] = f"{row['image_id']}.jpg"
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    message = refusal(tmp_path)
    assert "nothing to learn" in message and "4 boxes of images that are not listed" in message


def test_labelme_files_without_images_are_not_taken_for_coco(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(json.dumps({"shapes": [], "imagePath": "0.jpg"}))
    for data in (tmp_path, tmp_path / "0.json"):
        assert "0.json is a file of LabelMe, not of COCO" in refusal(data)


def test_missing_images_are_named_as_the_cause(tmp_path: Path) -> None:
    root = yolo(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    (root / "train.txt").write_text("elsewhere/7.jpg\nelsewhere/8.jpg\n")
    (root / "data.yaml").write_text("train: train.txt\nnames: [cat]\n")
    assert "2 of 2 images do not exist or cannot be read" in refusal(root)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps(coco()).encode()[:100], "is not valid JSON"),
        (
            json.dumps(coco(), ensure_ascii=False).replace("cat", "Bär").encode("latin-1"),
            r"is not UTF-8 text .*; save it as UTF-8",
        ),
        (json.dumps({"images": [], "annotations": []}).encode(), "has no list 'categories'"),
    ],
    ids=["truncated", "latin-1", "categories"],
)
def test_the_fault_of_a_coco_file_in_a_folder_is_named(
    tmp_path: Path, content: bytes, words: str
) -> None:
    images(tmp_path)
    (tmp_path / "boxes.json").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_boxes(tmp_path)
    assert "boxes.json" in str(caught.value)


def test_images_without_label_files_are_named_in_training_and_evaluation(tmp_path: Path) -> None:
    root = yolo(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    (root / "labels" / "2.txt").unlink()
    evaluated = read_evaluation(root, ("cat", "dog"))
    line = "1 of 4 images of the train split have no label file and are used as images without"
    for warnings in (read_splits(root).warnings, evaluated.warnings):
        assert any(line in each and "2.jpg" in each for each in warnings)
    assert evaluated.split == "all"
    assert evaluated.warnings[-1] == "classes without boxes, not measured: dog"


def test_faulty_boxes_are_named_in_training_and_evaluation(tmp_path: Path) -> None:
    images(tmp_path)
    content = coco()
    content["annotations"].append({**content["annotations"][1], "id": 9})
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    for warnings in (read_splits(tmp_path).warnings, read_evaluation(tmp_path, ("cat",)).warnings):
        assert any("1 boxes that were listed twice were used once" in each for each in warnings)


def test_swapped_sides_are_named(tmp_path: Path) -> None:
    images(tmp_path)
    content = coco()
    content["images"][0] |= {"height": 60, "width": 40}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    samples = read_evaluation(tmp_path, ("cat",)).samples
    assert "stored pixels if EXIF rotates it, or the sides are swapped" in samples.problem(
        0, 40, 60
    )


# ---- ids and names of COCO ----


@pytest.mark.parametrize("write", [str, float, lambda i: f"img-{i}"])
def test_ids_are_integers_or_text(tmp_path: Path, write: Any) -> None:
    images(tmp_path)
    content = coco()
    for row in content["images"]:
        row["id"] = write(row["id"])
    for row in content["annotations"]:
        row["image_id"] = write(row["image_id"])
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    annotations = read_boxes(tmp_path).splits["train"].annotations
    assert [len(each.boxes) for each in annotations] == [1, 1, 1, 1]


def test_ids_that_differ_in_leading_zeros_are_different(tmp_path: Path) -> None:
    images(tmp_path)
    content = coco(2)
    for i, key in enumerate(("7", "07")):
        content["images"][i]["id"] = content["annotations"][i]["image_id"] = key
    content["annotations"].pop()
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    annotations = read_boxes(tmp_path).splits["train"].annotations
    assert [len(each.boxes) for each in annotations] == [1, 0]


@pytest.mark.parametrize(
    ("value", "crowd"),
    [("0", False), ("1", True), (0, False), (1.0, True), (True, True), (None, False)],
)
def test_iscrowd_may_be_text(tmp_path: Path, value: Any, crowd: bool) -> None:
    images(tmp_path)
    (tmp_path / "boxes.json").write_text(json.dumps(coco(iscrowd=value)))
    assert read_boxes(tmp_path).splits["train"].annotations[0].crowd == [crowd]


def test_two_ids_of_one_file_are_one_image_with_the_boxes_of_both(tmp_path: Path) -> None:
    images(tmp_path)
    content = coco()
    content["images"].append({"id": 9, "file_name": "0.jpg", "height": 40, "width": 60})
    content["annotations"].append(
        {"id": 9, "image_id": 9, "category_id": 1, "bbox": [30, 10, 8, 8]}
    )
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    source = read_boxes(tmp_path)
    assert [len(each.boxes) for each in source.splits["train"].annotations] == [2, 1, 1, 1]
    assert "1 images that are listed twice were used once: 0.jpg" in source.warnings[0]


def test_two_categories_of_one_name_are_one_class_with_a_warning(tmp_path: Path) -> None:
    images(tmp_path)
    content = coco()
    content["categories"].append({"id": 2, "name": "cat"})
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    source = read_boxes(tmp_path)
    assert source.names == ("cat",)
    assert "the categories 1, 2 are all named 'cat' and are one class" in source.warnings[0]


def test_rotated_boxes_of_cvat_become_the_boxes_around_them(tmp_path: Path) -> None:
    images(tmp_path)
    content = coco(bbox=[20, 10, 20, 10], attributes={"rotation": 90.0})
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    source = read_boxes(tmp_path)
    (box,) = source.splits["train"].annotations[0].boxes
    assert box == pytest.approx((25, 5, 35, 25))
    assert "4 rotated boxes were replaced" in source.warnings[0]


def test_a_supercategory_of_any_type_is_no_fault(tmp_path: Path) -> None:
    images(tmp_path)
    content = coco()
    content["categories"] += [{"id": 0, "name": "x", "supercategory": [1]}]
    content["categories"][0]["supercategory"] = ["x"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    assert read_boxes(tmp_path).names == ("x", "cat")


# ---- images of other datasets ----


def test_images_are_not_taken_from_a_dataset_beside(tmp_path: Path) -> None:
    images(tmp_path / "other" / "images")
    (tmp_path / "other" / "boxes.json").write_text(json.dumps(coco()))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "boxes.json").write_text(json.dumps(coco()))
    samples = read_boxes(tmp_path / "own" / "boxes.json").splits["train"].samples
    assert "other" not in samples.name(0)


def test_images_outside_of_the_datasets_folder_are_named(tmp_path: Path) -> None:
    images(tmp_path / "photos")
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "boxes.json").write_text(json.dumps(coco()))
    source = read_boxes(tmp_path / "coco")
    assert source.splits["train"].samples.load(0).shape == (40, 60, 3)
    assert "photos, outside of that folder" in source.warnings[0]


def test_roboflows_paths_mean_the_folders_beside_data_yaml(tmp_path: Path) -> None:
    for root, count in ((tmp_path, 4), (tmp_path / "own", 2)):
        images(root / "train" / "images", count)
        (root / "train" / "labels").mkdir()
        (root / "train" / "labels" / "0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "own" / "data.yaml").write_text("train: ../train/images\nnames: [cat]\n")
    assert len(read_boxes(tmp_path / "own").splits["train"].samples) == 2

"""COCO, Pascal VOC, YOLO and datasets: the same objects from each; faulty boxes are reported."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, VisiongraftError
from visiongraft.plugins.detection.data import read_evaluation, read_splits
from visiongraft.plugins.detection.formats.reading import read_boxes
from visiongraft.plugins.detection.objects import Objects

Rows = Sequence[tuple[str, tuple[float, float, float, float]]]

SIZE = (40, 60)  # height and width
SCENES: dict[str, Rows] = {
    "a": [("cat", (5, 4, 25, 24)), ("dog", (30, 10, 55, 38))],
    "b": [("dog", (0, 0, 60, 40))],
    "c": [],
    "d": [("cat", (12.5, 8, 20, 30))],
}


def write_images(folder: Path, names: Sequence[str], suffix: str = ".jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", SIZE[::-1], "gray").save(folder / f"{name}{suffix}")


def coco(
    scenes: dict[str, Rows], ids: dict[str, int], *, first: int = 1, **more: Any
) -> dict[str, Any]:
    images = [
        {"id": first + i, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for i, name in enumerate(scenes)
    ]
    annotations = [
        {"image_id": first + i, "category_id": ids[name], "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for i, rows in enumerate(scenes.values())
        for name, (x1, y1, x2, y2) in rows
    ]
    for number, row in enumerate(annotations):
        row["id"] = number
    categories = [{"id": key, "name": name} for name, key in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories, **more}


def write_coco(root: Path, scenes: dict[str, Rows] = SCENES) -> Path:
    write_images(root / "images", list(scenes))
    (root / "boxes.json").write_text(json.dumps(coco(scenes, {"cat": 7, "dog": 3})))
    return root / "boxes.json"


def write_voc(root: Path, scenes: dict[str, Rows] = SCENES) -> Path:
    write_images(root / "JPEGImages", list(scenes))
    (root / "Annotations").mkdir()
    for name, rows in scenes.items():
        (root / "Annotations" / f"{name}.xml").write_text(voc_file(f"{name}.jpg", rows))
    return root


def voc_file(image: str, rows: Rows, size: bool = True, more: str = "") -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox>{more}</object>"
        for name, (x1, y1, x2, y2) in rows
    )
    header = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>" if size else ""
    return f"<annotation><filename>{image}</filename>{header}{objects}</annotation>"


def write_yolo(root: Path, scenes: dict[str, Rows] = SCENES) -> Path:
    write_images(root / "images", list(scenes))
    write_labels(root / "labels", scenes)
    (root / "labels" / "classes.txt").write_text("dog\ncat\n")
    return root


def write_labels(folder: Path, scenes: dict[str, Rows]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    height, width = SIZE
    for name, rows in scenes.items():
        lines = [
            f"{['dog', 'cat'].index(label)} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} "
            f"{(x2 - x1) / width} {(y2 - y1) / height}"
            for label, (x1, y1, x2, y2) in rows
        ]
        if lines:  # no file means no boxes
            (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def write_yaml(root: Path, scenes: dict[str, Rows] = SCENES) -> Path:
    write_images(root / "train" / "images", list(scenes))
    write_labels(root / "train" / "labels", scenes)
    (root / "data.yaml").write_text("train: ../train/images\nnames: {0: dog, 1: cat}\n")
    return root


def dataset(root: Path, scenes: dict[str, Rows] = SCENES) -> list[Any]:
    image = np.zeros((*SIZE, 3), np.uint8)
    return [
        (image, {"boxes": torch.tensor([b for _, b in rows]), "labels": [n for n, _ in rows]})
        for rows in scenes.values()
    ]


WRITERS: list[Callable[[Path], Any]] = [write_coco, write_voc, write_yolo, write_yaml, dataset]


def objects(data: Any, labels: tuple[str, ...] = ("cat", "dog")) -> list[Objects]:
    samples = read_evaluation(data, labels).samples
    return [samples.target(i) for i in range(len(samples))]


def by_name(found: list[Objects], labels: tuple[str, ...] = ("cat", "dog")) -> list[set[Any]]:
    return [
        {
            (labels[i], tuple(round(v, 3) for v in box))
            for i, box in zip(each.labels, each.boxes, strict=True)
        }
        for each in found
    ]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_format_yields_the_same_objects(write: Callable[[Path], Any], tmp_path: Path) -> None:
    data = write(tmp_path)
    found = objects(data)
    assert by_name(found) == [
        {(name, tuple(map(float, box))) for name, box in rows} for rows in SCENES.values()
    ]
    assert all(each.size == SIZE for each in found)
    assert set(read_boxes(data).names) == {"cat", "dog"}
    if not isinstance(data, list):
        samples = read_evaluation(data, ("cat", "dog")).samples
        assert samples.load(0).shape == (*SIZE, 3) and Path(samples.name(0)).stem == "a"


def test_class_names_of_a_dataset_are_sorted() -> None:
    assert [read_boxes(dataset(Path())).names] == [("cat", "dog")]


def test_class_names_are_in_the_order_of_the_datasets_ids(tmp_path: Path) -> None:
    assert read_boxes(write_coco(tmp_path / "coco")).names == ("dog", "cat")  # ids 3 and 7
    assert read_boxes(write_voc(tmp_path / "voc")).names == ("cat", "dog")
    assert read_boxes(write_yolo(tmp_path / "yolo")).names == ("dog", "cat")


NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6).map(
    partial(unicodedata.normalize, "NFC")  # readers compose names, so that 豈 becomes 豈
)


@st.composite
def id_maps(draw: st.DrawFn) -> tuple[list[str], dict[str, int], dict[str, int]]:
    """Draw names, and ids for them in two files: sparse, in any order, with a background entry."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    maps = []
    for _ in range(2):
        numbers = st.lists(
            st.integers(0, 10**6), min_size=len(names) + 1, max_size=len(names) + 1, unique=True
        )
        ids = draw(numbers)
        order = draw(st.permutations(list(zip(names, ids, strict=False))))
        found = dict(order)
        if draw(st.booleans()):
            found[draw(st.sampled_from(["background", "__background__", "Background"]))] = ids[-1]
        maps.append(found)
    return names, maps[0], maps[1]


@given(id_maps(), st.data())
def test_names_mean_the_same_whatever_the_ids(
    tmp_path_factory: pytest.TempPathFactory, maps: Any, data: st.DataObject
) -> None:
    names, first, second = maps
    root = tmp_path_factory.mktemp("ids") / "set"  # images are searched below the folder above
    root.mkdir()
    box = (1.0, 1.0, 11.0, 11.0)
    drawn = [data.draw(st.sampled_from(names)) for _ in range(4)]
    scenes = [{f"{split}{i}": [(n, box)] for i, n in enumerate(drawn)} for split in "tv"]
    for split, ids, scene in zip(("train", "val"), (first, second), scenes, strict=True):
        (root / f"instances_{split}.json").write_text(json.dumps(coco(scene, ids)))
    splits = read_splits(root)
    for samples in (splits.train, splits.validation):
        names_by_id = samples.class_names  # type: ignore[attr-defined]
        assert sorted(names_by_id) == sorted(names)
        assert [names_by_id[samples.target(i).labels[0]] for i in range(4)] == drawn
    evaluated = read_evaluation(root, splits.train.class_names).samples  # type: ignore[attr-defined]
    assert [evaluated.class_names[evaluated.target(i).labels[0]] for i in range(4)] == drawn


def test_ids_taken_for_positions_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "instances_train.json").write_text(json.dumps(coco(SCENES, {"dog": 5, "cat": 9})))
    (tmp_path / "instances_val.json").write_text(json.dumps(coco(SCENES, {"cat": 0, "dog": 1})))
    splits = read_splits(tmp_path)
    assert splits.train.target(0).labels == splits.validation.target(0).labels == (1, 0)


# ---- faulty boxes ----


def read_with(tmp_path: Path, rows: Rows, **more: Any) -> Any:
    scenes = {**SCENES, "e": rows}
    content = coco(scenes, {"cat": 7, "dog": 3, **more.pop("ids", {})})
    for change in more.pop("changes", []):
        change(content)
    write_images(tmp_path, list(scenes))
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return read_splits(tmp_path / "boxes.json", validation=0.3)


@pytest.mark.parametrize(
    ("box", "kept", "words"),
    [
        ((50, 30, 80, 60), (50, 30, 60, 40), "boxes that extended beyond their image were clipped"),
        ((-0.6, 0, 10, 10), (0, 0, 10, 10), None),
        ((70, 10, 90, 20), None, "boxes outside of their image were dropped"),
        ((-30, -30, -1, -1), None, "boxes outside of their image were dropped"),
        ((10, 10, 10, 30), None, "boxes without area were dropped"),
        ((30, 10, 20, 20), None, "boxes without area were dropped"),
        ((5, 5, 10, float("nan")), None, "boxes without area were dropped"),
        ((5, 5, float("inf"), 9), None, "boxes without area were dropped"),
    ],
)
def test_a_faulty_box_is_cleaned_counted_and_named(
    tmp_path: Path, box: Any, kept: Any, words: str | None
) -> None:
    splits = read_with(tmp_path, [("cat", box)])
    samples = read_evaluation(tmp_path / "boxes.json", ("cat", "dog")).samples
    assert samples.target(4).boxes == (() if kept is None else (tuple(map(float, kept)),))
    lines = [line for line in splits.warnings if words is not None and words in line]
    if words is None:
        assert not any("boxes" in line and "e.jpg" in line for line in splits.warnings)
    else:
        assert len(lines) == 1 and lines[0].startswith("1 ") and lines[0].endswith("e.jpg")
        assert any(name.startswith(words) and n == 1 for name, n in splits.facts.items())


def test_crowd_regions_are_neither_trained_on_nor_counted(tmp_path: Path) -> None:
    def mark(content: dict[str, Any]) -> None:
        content["annotations"][-1] |= {"iscrowd": 1, "area": 50.0}

    splits = read_with(tmp_path, [("cat", (1, 1, 20, 20))], changes=[mark])
    both = [splits.train, splits.validation]
    targets = [p.target(i) for p in both for i in range(len(p))]
    crowds = [t for t in targets if any(t.crowd)]
    assert len(crowds) == 1 and crowds[0].areas == (50.0,) and crowds[0].single().boxes == ()
    assert sum(splits.facts[f"{p} crowd regions"] for p in ("training", "validation")) == 1
    empty = [splits.facts[f"{p} images without boxes"] for p in ("training", "validation")]
    assert sum(empty) == 2  # the one of the crowd, and the one without anything


def test_boxes_listed_twice_are_used_once(tmp_path: Path) -> None:
    box = ("cat", (1.0, 1.0, 20.0, 20.0))
    splits = read_with(tmp_path, [box, box, ("dog", box[1])])
    assert (
        len(read_evaluation(tmp_path / "boxes.json", ("cat", "dog")).samples.target(4).boxes) == 2
    )
    assert any(line.startswith("1 boxes that were listed twice") for line in splits.warnings)


def test_boxes_of_the_background_and_of_unlisted_images_are_skipped(tmp_path: Path) -> None:
    def unlisted(content: dict[str, Any]) -> None:
        row = dict(content["annotations"][0], image_id=99, id=99)
        content["annotations"].append(row)

    rows = [("background", (1.0, 1.0, 20.0, 20.0))]
    splits = read_with(tmp_path, rows, ids={"background": 0}, changes=[unlisted])
    text = "\n".join(splits.warnings)
    assert "1 boxes labeled as background were skipped" in text
    assert "1 boxes of images that are not listed were skipped: image ids 99" in text


def test_a_missing_image_is_kept_for_the_check_to_report(tmp_path: Path) -> None:
    file = write_coco(tmp_path)
    (tmp_path / "images" / "b.jpg").unlink()
    samples = read_evaluation(file, ("cat", "dog")).samples
    with pytest.raises(DataError, match=r"b\.jpg"):
        samples.load(1)
    assert samples.target(1).boxes  # of the size in the file


def test_an_image_of_another_size_is_a_problem(tmp_path: Path) -> None:
    samples = read_evaluation(write_coco(tmp_path), ("cat", "dog")).samples
    assert samples.problem(0, *SIZE) == ""
    assert "its boxes are for an image of 60x40 pixels, but it has 40x60" in samples.problem(
        0, 60, 40
    )
    assert samples.problem(2, 60, 40) == ""  # has no boxes that could be wrong


def repeat_image(content: dict[str, Any]) -> None:
    content["images"].append(dict(content["images"][0]))


def test_an_image_listed_twice_is_used_once(tmp_path: Path) -> None:
    splits = read_with(tmp_path, [], changes=[repeat_image])
    assert len(splits.train) + len(splits.validation) == 5
    assert any("1 images that are listed twice were used once" in w for w in splits.warnings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["images"].append(dict(c["images"][0], file_name="z.jpg")),
            "image id 1 is both",
        ),
        (lambda c: c["categories"].append({"id": 7, "name": "emu"}), "category id 7 is both"),
        (lambda c: c["annotations"][0].update(category_id=1), "category id 1, which is not listed"),
        (lambda c: c["annotations"][0].update(category_id=[7]), r"category_id=\[7\]"),
        (lambda c: c["annotations"][0].update(category_id=1.5), "category_id=1.5"),
        (lambda c: c["annotations"][0].update(iscrowd="maybe"), "iscrowd='maybe'"),
        (lambda c: c["images"].append(dict(c["images"][0], id=77, height=9)), "different sizes"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"bbox=\[1, 2, 3\]"),
        (lambda c: c["annotations"][0].update(bbox=None), "bbox=None"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, "4"]), "bbox="),
        (lambda c: c["images"][0].pop("file_name"), "image 1 has no file_name"),
        (lambda c: c["images"][0].update(id=None), "an image has id=None"),
        (lambda c: c["categories"][0].pop("name"), "has no name"),
        (lambda c: c.pop("categories"), "has no list 'categories'"),
        (lambda c: c.update(images=[1]), "has no list 'images'"),
        (lambda c: c["images"].clear(), "no image is listed"),
    ],
)
def test_an_inconsistent_coco_file_is_rejected(
    tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_with(tmp_path, [], changes=[change])
    assert "\n" not in str(caught.value) and "boxes.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<annotation><object>", "is not valid XML"),
        (voc_file("a.jpg", []).replace("</annotation>", "<object/></annotation>"), "has no name"),
        (voc_file("a.jpg", [("cat", (1, 2, 3, 4))]).replace("<xmax>3</xmax>", ""), "has bndbox"),
    ],
)
def test_a_damaged_voc_file_is_rejected(tmp_path: Path, content: str, words: str) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations" / "a.xml").write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_boxes(root)
    assert "a.xml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2", "is not a box"),
        ("0 0.5 0.5 0.2 0.2 0.3", "is not a box"),
        ("0.5 0.5 0.5 0.2 0.2", "is not a box"),
        ("nan 0.5 0.5 0.2 0.2", "is not a box"),
        ("cat 0.5 0.5 0.2 0.2", "contains other than numbers"),
        ("7 0.5 0.5 0.2 0.2", "class id 7 has no name"),
    ],
)
def test_a_damaged_yolo_line_is_rejected_with_its_number(
    tmp_path: Path, line: str, words: str
) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "a.txt").write_text(f"0 0.5 0.5 0.2 0.2\n{line}\n")
    with pytest.raises(DataError, match=words) as caught:
        read_boxes(root)
    assert "a.txt:2" in str(caught.value)


def test_a_yolo_outline_becomes_the_box_around_it(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "c.txt").write_text("1 0.1 0.5 0.5 0.25 0.9 0.75\n")
    assert by_name(objects(root))[2] == {("cat", (6.0, 10.0, 54.0, 30.0))}


def test_yolo_without_class_names_or_images_is_reported(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "lost.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert "1 label files without an image" in read_boxes(root).warnings[0]
    (root / "labels" / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"has no classes\.txt"):
        read_boxes(root)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: [", "is not valid YAML"),
        ("train: images", "has no names"),
        ("- a", "has no names"),
        ("train: nowhere\nnames: [dog, cat]", "nowhere, which does not exist"),
        ("names: [dog]", "there are no images"),
        ("names: {a: dog}\ntrain: train/images", "expected names by class id"),
        ("names: dog\ntrain: train/images", "is not a list of class names"),
        ("names: !!python/object/apply:os.system [true]", "is not valid YAML"),
    ],
)
def test_a_damaged_yaml_file_is_rejected(tmp_path: Path, text: str, words: str) -> None:
    root = write_yaml(tmp_path)
    (root / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_boxes(root)
    assert "\n" not in str(caught.value)


def test_splits_are_found_in_every_format(tmp_path: Path) -> None:
    layout = {"train": {"a": SCENES["a"], "b": SCENES["b"]}, "val": {"d": SCENES["d"]}}
    for split, scenes in layout.items():
        write_images(tmp_path / "coco" / f"{split}2017", list(scenes))
        (tmp_path / "coco" / "annotations").mkdir(exist_ok=True)
        file = tmp_path / "coco" / "annotations" / f"instances_{split}2017.json"
        file.write_text(json.dumps(coco(scenes, {"cat": 1, "dog": 2})))
        write_images(tmp_path / "yolo" / "images" / split, list(scenes))
        write_labels(tmp_path / "yolo" / "labels" / split, scenes)
    (tmp_path / "coco" / "annotations" / "captions_train2017.json").write_text("{}")
    (tmp_path / "yolo" / "classes.txt").write_text("dog\ncat\n")
    write_voc(tmp_path / "voc")
    (tmp_path / "voc" / "ImageSets" / "Main").mkdir(parents=True)
    for split, scenes in layout.items():
        file = tmp_path / "voc" / "ImageSets" / "Main" / f"{split}.txt"
        file.write_text("\n".join(scenes) + "\n")
    for name in ("coco", "yolo", "voc"):
        splits = read_splits(tmp_path / name)
        assert len(splits.train) == 2 and len(splits.validation) == 1
        assert splits.facts["validation from"] == "the dataset's validation split"
        splits.validation.load(0)
    pair = read_splits((tmp_path / "coco", write_yolo(tmp_path / "more")))
    assert len(pair.train) == 2 and len(pair.validation) == 4


def test_splits_may_use_the_same_file_names(tmp_path: Path) -> None:
    for split, shade in (("train", 10), ("val", 90), ("test", 200)):
        for parent in ("beside", "above/images"):
            folder = tmp_path / parent / split
            write_images(folder, ["a"])
            Image.new("RGB", SIZE[::-1], (shade,) * 3).save(folder / "a.jpg")
        content = json.dumps(coco({"a": SCENES["a"]}, {"cat": 1, "dog": 2}))
        (tmp_path / "beside" / f"instances_{split}.json").write_text(content)
        (tmp_path / "above" / "annotations").mkdir(exist_ok=True)
        (tmp_path / "above" / "annotations" / f"instances_{split}.json").write_text(content)
    for parent in ("beside", "above"):
        splits = read_boxes(tmp_path / parent).splits
        shades = [splits[p].samples.load(0).mean() for p in ("train", "validation", "test")]
        assert shades == pytest.approx([10, 90, 200], abs=2)


def test_two_files_of_one_split_are_ambiguous(tmp_path: Path) -> None:
    for name in ("instances_train.json", "instances_training.json"):
        (tmp_path / name).write_text(json.dumps(coco(SCENES, {"cat": 1, "dog": 2})))
    with pytest.raises(DataError, match="are both of the train split"):
        read_boxes(tmp_path)


def test_sizes_missing_in_voc_files_are_read_from_the_image(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations" / "a.xml").write_text(voc_file("a.jpg", SCENES["a"], size=False))
    rotated = Image.new("RGB", SIZE, "gray")  # as wide as the others are high
    exif = rotated.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees
    rotated.save(root / "JPEGImages" / "a.jpg", exif=exif)
    assert objects(root)[0].size == SIZE


def test_difficult_objects_of_voc_are_not_counted(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    text = voc_file("b.jpg", SCENES["b"], more="<difficult>1</difficult>")
    (root / "Annotations" / "b.xml").write_text(text)
    assert objects(root)[1].crowd == (True,)


def test_datasets_may_have_ids_names_crowds_and_areas() -> None:
    image = np.zeros((*SIZE, 3), np.uint8)

    class Pairs(list[Any]):
        classes = ("__background__", "cat", "dog")

    target = {
        "boxes": torch.tensor([[1.0, 2, 11, 12], [3, 4, 20, 30], [0, 0, 5, 5]]),
        "labels": torch.tensor([2, 1, 0]),
        "iscrowd": torch.tensor([0, 1, 0]),
        "area": torch.tensor([60.0, 70, 80]),
    }
    source = read_boxes(Pairs([(image, target)]))
    assert source.names == ("cat", "dog")
    (found,) = objects(Pairs([(image, target)]))
    assert found.labels == (1, 0) and found.crowd == (False, True) and found.areas == (60.0, 70.0)
    plain = [(image, {"boxes": [[1, 2, 11, 12]] * 3, "labels": [10, 2, 1]})]
    assert read_boxes(plain).names == ("1", "2", "10")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (3, "the target is int"),
        ({"boxes": []}, "the target is dict"),
        ({"boxes": [[1, 2, 3, 4]], "labels": []}, "1 boxes and 0 labels"),
        ({"boxes": [[1, 2, 3]], "labels": [1]}, "is not a box"),
        ({"boxes": [1], "labels": [1]}, "is not a box"),
        ({"boxes": [[1, 2, 3, 4]], "labels": [1.5]}, "neither a class name nor a class id"),
        ({"boxes": [[1, 2, 3, 4]], "labels": [True]}, "neither a class name nor a class id"),
    ],
)
def test_a_dataset_of_other_targets_is_rejected(target: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_boxes([(np.zeros((4, 4, 3), np.uint8), target)])
    assert "item 0" in str(caught.value)


def test_a_class_outside_of_class_names_is_rejected(tmp_path: Path) -> None:
    file = write_coco(tmp_path)
    with pytest.raises(DataError, match=r"a\.jpg: label 'dog' is not in the label map"):
        read_evaluation(file, ("cat", "bird"))
    splits = read_splits(file, class_names=("dog", "cat"), validation=0.4)
    assert splits.train.class_names == ("dog", "cat")  # type: ignore[attr-defined]


def test_without_boxes_there_is_nothing_to_learn(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(coco({"a": [], "b": []}, {"cat": 1})))
    with pytest.raises(DataError, match="no training image has a box"):
        read_splits(tmp_path / "boxes.json")


def test_classes_that_a_split_lacks_are_named(tmp_path: Path) -> None:
    ids = {"cat": 1, "dog": 2, "emu": 3}
    train = {"a": [("cat", (1.0, 1.0, 9.0, 9.0))]}
    validation = {"b": [("dog", (1.0, 1.0, 9.0, 9.0))]}
    (tmp_path / "instances_train.json").write_text(json.dumps(coco(train, ids)))
    (tmp_path / "instances_val.json").write_text(json.dumps(coco(validation, ids)))
    text = "\n".join(read_splits(tmp_path).warnings)
    assert "classes without any box: emu" in text
    assert "classes only in validation, which cannot be learned: dog" in text
    assert "classes without validation boxes, not measured: cat" in text


def test_every_error_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no boxes")
    for data in (tmp_path / "nowhere", tmp_path, tmp_path / "notes.txt", 3, [], (1, 2, 3)):
        with pytest.raises(VisiongraftError) as caught:
            read_boxes(data)
        assert "\n" not in str(caught.value)


def test_a_subset_keeps_targets_and_class_names(tmp_path: Path) -> None:
    samples = read_evaluation(write_coco(tmp_path), ("cat", "dog")).samples
    subset = samples.subset([3, 0])
    assert subset.class_names == samples.class_names and subset.target(1) == samples.target(0)
    assert subset.name(0) == samples.name(3) and subset.content(0) == samples.content(3)
    assert subset.counts() == (2, 1)
    assert isinstance(samples.base, FileSamples)

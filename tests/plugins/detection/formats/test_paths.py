"""The folder layouts of detection datasets: the same images and boxes from each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visiongraft.errors import DataError
from visiongraft.plugins.detection.data import read_evaluation, read_splits
from visiongraft.plugins.detection.formats.dataset import BoxDataset
from visiongraft.plugins.detection.formats.reading import read_boxes

HEIGHT, WIDTH = 40, 60
NAMES = ("dog", "cat")  # by class id, not in alphabetical order
BOX = (6.0, 4.0, 30.0, 24.0)

# For each split and image the class of its only box; None if it has no box.
Scenes = Mapping[str, Mapping[str, str | None]]
SCENES: Scenes = {
    "train": {"a": "cat", "b": "dog", "c": None},
    "val": {"d": "cat", "e f.1": "dog"},
    "test": {"ä": "dog"},
}
ALL: Scenes = {"train": {name: label for split in SCENES.values() for name, label in split.items()}}
SPLITS = {"train": "train", "val": "validation", "test": "test"}


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), "gray").save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def xml(path: Path, label: str | None) -> None:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True)
    box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
    content = f"<object><name>{label}</name><bndbox>{box}</bndbox></object>" if label else ""
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    text(path, f"<annotation>{size}{content}</annotation>")


def line(label: str) -> str:
    x1, y1, x2, y2 = BOX
    fractions = [
        (x1 + x2) / 2 / WIDTH,
        (y1 + y2) / 2 / HEIGHT,
        (x2 - x1) / WIDTH,
        (y2 - y1) / HEIGHT,
    ]
    return " ".join(map(str, [NAMES.index(label), *fractions]))


def write(root: Path, scenes: Scenes, images: str, labels: str, suffix: str = ".jpg") -> None:
    """Write images and labels to patterns of paths such as ``"images/{split}/{name}"``."""
    for split, rows in scenes.items():
        for name, label in rows.items():
            image(root / (images.format(split=split, name=name) + suffix))
            path = root / labels.format(split=split, name=name)
            if path.suffix.lower() == ".xml":
                xml(path, label)
            elif label:  # no file means no boxes
                text(path, line(label) + "\n")


def coco(rows: Mapping[str, str | None], **more: Any) -> str:
    x1, y1, x2, y2 = BOX
    numbered = list(enumerate(rows.items(), 1))
    boxes = [
        {
            "id": i,
            "image_id": i,
            "category_id": 1 + NAMES.index(label),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
        }
        for i, (_, label) in numbered
        if label
    ]
    images = [
        {"id": i, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH}
        for i, (name, _) in numbered
    ]
    categories = [{"id": 1 + i, "name": name} for i, name in enumerate(NAMES)]
    content = {"images": images, "annotations": boxes, "categories": categories, **more}
    return json.dumps(content)


def write_coco(root: Path, images: str, file: str) -> None:
    for split, rows in SCENES.items():
        for name in rows:
            image(root / images.format(split=split) / f"{name}.jpg")
        text(root / file.format(split=split), coco(rows))


def seen(source: BoxDataset) -> dict[str, dict[str, str | None]]:
    """Convert a dataset to the form of ``SCENES``, and check the location of each box."""
    found: dict[str, dict[str, str | None]] = {}
    for word, split in SPLITS.items():
        if split not in source.splits:
            continue
        samples, annotations = source.splits[split].samples, source.splits[split].annotations
        found[word] = {}
        for i, annotation in enumerate(annotations):
            assert samples.load(i).shape == (HEIGHT, WIDTH, 3)
            assert annotation.size == (HEIGHT, WIDTH)
            assert [tuple(round(v, 3) for v in box) for box in annotation.boxes] in ([], [BOX])
            found[word][Path(samples.name(i)).stem] = next(iter(annotation.names), None)
    return found


def test_the_only_subfolder_is_read(tmp_path: Path) -> None:
    write(tmp_path / "cats" / "v2", SCENES, "{split}/{name}", "{split}/{name}.xml")
    assert seen(read_boxes(tmp_path)) == SCENES
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="contains no boxes"):
        read_boxes(tmp_path)


# ---- Pascal VOC ----


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{split}/{name}", "{split}/{name}.xml"),
        ("{split}/images/{name}", "{split}/annotations/{name}.xml"),
        ("{split}/JPEGImages/{name}", "{split}/Annotations/{name}.xml"),
        ("images/{split}/{name}", "annotations/{split}/{name}.xml"),
        ("Images/{split}/{name}", "xmls/{name}.xml"),
    ],
)
def test_splits_are_folders_of_voc_files(tmp_path: Path, images: str, labels: str) -> None:
    write(tmp_path, SCENES, images, labels)
    source = read_boxes(tmp_path)
    assert seen(source) == SCENES and source.names == ("cat", "dog") and source.warnings == ()


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{name}", "{name}.xml"),
        ("images/{name}", "{name}.xml"),
        ("{name}", "Annotations/{name}.xml"),
        ("IMAGES/{name}", "ANNOTATIONS/{name}.XML"),
        ("photos/{name}", "labels/{name}.xml"),
    ],
)
def test_voc_files_are_beside_images_or_in_folders(
    tmp_path: Path, images: str, labels: str
) -> None:
    write(tmp_path, ALL, images, labels, ".JPG")
    source = read_boxes(tmp_path)
    assert seen(source) == ALL and source.warnings == ()


@pytest.mark.parametrize(
    "words", [("valid", "validation"), ("validation", "val"), ("VALID", "val")]
)
def test_a_split_may_have_another_name_but_exists_once(
    tmp_path: Path, words: tuple[str, str]
) -> None:
    write(
        tmp_path,
        {"train": {"a": "cat"}, words[0]: {"b": "dog"}},
        "{split}/{name}",
        "{split}/{name}.xml",
    )
    assert seen(read_boxes(tmp_path)) == {"train": {"a": "cat"}, "val": {"b": "dog"}}
    write(tmp_path, {words[1]: {"c": "dog"}}, "{split}/{name}", "{split}/{name}.xml")
    with pytest.raises(DataError, match="are both of the validation split"):
        read_boxes(tmp_path)


def test_the_only_year_of_a_devkit_is_read(tmp_path: Path) -> None:
    year = tmp_path / "VOCdevkit" / "VOC2012"
    write(year, ALL, "JPEGImages/{name}", "Annotations/{name}.xml")
    for split, rows in SCENES.items():
        text(year / "ImageSets" / "Main" / f"{split}.txt", "\ufeff" + "\r\n".join(rows) + "\r\n")
    for root in (year, year.parent, tmp_path):
        assert seen(read_boxes(root)) == SCENES
    write(tmp_path / "VOCdevkit/VOC2007", ALL, "JPEGImages/{name}", "Annotations/{name}.xml")
    with pytest.raises(DataError, match="contains VOC2007 and VOC2012; pass one of them") as caught:
        read_boxes(tmp_path)
    assert "\n" not in str(caught.value)
    assert seen(read_boxes(year)) == SCENES


def test_lines_of_voc_lists_have_spaces_suffixes_or_a_second_word(tmp_path: Path) -> None:
    write(tmp_path, ALL, "JPEGImages/{name}", "Annotations/{name}.xml")
    text(tmp_path / "ImageSets/Main/train.txt", "a  1\nb.jpg\ne f.1 -1\n")
    text(tmp_path / "ImageSets/Main/val.txt", "e f.1\n")
    found = seen(read_boxes(tmp_path))
    assert (list(found["train"]), list(found["val"])) == (["a", "b", "e f.1"], ["e f.1"])


def test_other_voc_files_are_named_in_warnings(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "annotations/{name}.xml")
    write(tmp_path, {"val": {"z": "cat"}}, "{split}/{name}", "{split}/{name}.xml")
    write(tmp_path, {"": {"a": "dog"}}, "photos/{name}", "xmls/{name}.xml")
    source = read_boxes(tmp_path)
    assert seen(source) == ALL
    assert [each.rsplit(": ")[-1] for each in source.warnings] == ["xmls", "photos", "val"]


# ---- YOLO ----


@pytest.mark.parametrize(
    ("images", "labels", "names"),
    [
        ("images/{split}/{name}", "labels/{split}/{name}.txt", "classes.txt"),
        ("Images/{split}/{name}", "Labels/{split}/{name}.TXT", "Labels/classes.txt"),
        ("images/{split}/{name}", "LABELS/{split}/{name}.txt", "classes.txt"),
        ("{split}/images/{name}", "{split}/labels/{name}.txt", "classes.txt"),
        ("{split}/{name}", "{split}/{name}.txt", "train/_darknet.labels"),
        ("{split}/{name}", "{split}/{name}.txt", "obj.names"),
    ],
)
def test_splits_are_folders_of_yolo_files(
    tmp_path: Path, images: str, labels: str, names: str
) -> None:
    root = tmp_path / "images"  # a folder further up of this name changes nothing
    write(root, SCENES, images, labels)
    text(root / names, "\ufeffdog\r\ncat\r\n")
    source = read_boxes(root)
    assert seen(source) == SCENES and source.names == NAMES and source.warnings == ()


def test_yolo_files_may_be_beside_their_images(tmp_path: Path) -> None:
    write(tmp_path, ALL, "{name}", "{name}.txt", ".JPEG")
    with pytest.raises(DataError, match="contains no boxes"):
        read_boxes(tmp_path)  # text files beside images may be anything
    text(tmp_path / "classes.txt", "dog\ncat\n")
    assert seen(read_boxes(tmp_path)) == ALL


def test_class_names_that_differ_between_splits_are_rejected(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{split}/{name}", "{split}/{name}.txt")
    text(tmp_path / "train/_darknet.labels", "dog\ncat\n")
    text(tmp_path / "val/_darknet.labels", "cat\ndog\n")
    with pytest.raises(DataError, match="name different classes; keep one"):
        read_boxes(tmp_path)


def test_a_yolo_folder_beside_the_splits_is_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        {**SCENES, "more": {"z": "cat"}},
        "images/{split}/{name}",
        "labels/{split}/{name}.txt",
    )
    text(tmp_path / "classes.txt", "dog\ncat\n")
    source = read_boxes(tmp_path)
    assert seen(source) == SCENES and source.warnings[0].endswith("skipped: more")


ROBOFLOW = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\n"


def roboflow(root: Path, *folders: str) -> Path:
    scenes = {word: SCENES[split] for word, split in (("train", "train"), ("valid", "val"))}
    scenes = {word: rows for word, rows in scenes.items() if word in folders}
    write(root, scenes, "{split}/images/{name}", "{split}/labels/{name}.txt")
    text(root / "data.yaml", f"\ufeff{ROBOFLOW}names: ['dog', 'cat']\n")
    return root


def test_a_missing_test_split_is_a_warning(tmp_path: Path) -> None:
    splits = read_splits(roboflow(tmp_path, "train", "valid"))
    assert (len(splits.train), len(splits.validation)) == (3, 2)
    assert splits.facts["validation from"] == "the dataset's validation split"
    (warning,) = [w for w in splits.warnings if "does not exist" in w]
    assert "data.yaml refers to ../test/images" in warning and "test split" in warning
    assert len(read_evaluation(tmp_path, NAMES).samples) == 2


def test_without_the_validation_split_images_are_held_out_with_a_warning(
    tmp_path: Path,
) -> None:
    root = roboflow(tmp_path, "train")
    for name in "gh":
        write(root, {"train": {name: "dog"}}, "{split}/images/{name}", "{split}/labels/{name}.txt")
    splits = read_splits(root, validation=0.4)
    assert splits.facts["validation from"].startswith("40% of the training images")
    assert any("../valid/images, which does not exist" in w for w in splits.warnings)
    assert any(
        "without the validation split, training images are held out" in w for w in splits.warnings
    )
    with pytest.raises(
        DataError, match="has only training images; its validation and test images do not exist"
    ):
        read_evaluation(root, NAMES)  # never evaluate on training images silently


def test_missing_training_images_are_an_error(tmp_path: Path) -> None:
    roboflow(tmp_path, "valid")
    with pytest.raises(DataError, match=r"refers to \.\./train/images, which does not exist"):
        read_boxes(tmp_path)
    (tmp_path / "train" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"refers to \.\./train/images, which contains no images"):
        read_boxes(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: [dog, cat]", NAMES),
        ("names: {1: cat, 0: dog}", NAMES),
        ("names:\n  0: dog\n  1: cat", NAMES),
        ("nc: 2", ("0", "1")),
        ("nc: 3\nnames: [dog, cat]", NAMES),
    ],
)
def test_class_names_in_a_yaml_file_are_a_list_or_by_id_or_only_counted(
    tmp_path: Path, names: str, expected: tuple[str, ...]
) -> None:
    write(tmp_path, ALL, "images/{name}", "labels/{name}.txt")
    text(tmp_path / "data.yaml", f"train: images\n{names}\n")
    source = read_boxes(tmp_path)
    assert source.names == expected
    warnings = {
        "nc: 2": "class ids are used as names",
        "nc: 3\nnames: [dog, cat]": "has nc: 3, but 2 class names",
    }
    assert [warnings[names] in w for w in source.warnings] == ([True] if names in warnings else [])


def test_paths_in_a_yaml_file_are_lists_and_several_folders(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "images/{split}/{name}", "labels/{split}/{name}.txt")
    rows = [f"./images/train/{name}.jpg" for name in SCENES["train"]]
    text(tmp_path / "train.txt", "\ufeff" + "\r\n".join(rows) + "\r\n")
    text(tmp_path / "val.txt", "\n".join(f".\\images\\val\\{n}.jpg" for n in SCENES["val"]))
    text(
        tmp_path / "data.yaml",
        "path: ../datasets/elsewhere\ntrain: train.txt\nval: val.txt\ntest: images\\test\n"
        "names: [dog, cat]\n",
    )
    assert seen(read_boxes(tmp_path)) == SCENES
    text(
        tmp_path / "data.yaml", "train: [images/train, images/val, images/test]\nnames: [dog, cat]"
    )
    assert seen(read_boxes(tmp_path)) == ALL
    text(tmp_path / "data.yaml", "train: {a: b}\nnames: [dog, cat]")
    with pytest.raises(DataError, match="is not a folder or list of folders"):
        read_boxes(tmp_path)


def test_windows_line_endings_and_byte_order_marks_are_accepted(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "labels/{name}.txt", ".PNG")
    for file in (tmp_path / "labels").iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    text(tmp_path / "classes.txt", "dog\ncat\n")
    assert seen(read_boxes(tmp_path)) == ALL


# ---- COCO ----


@pytest.mark.parametrize(
    ("images", "file"),
    [
        ("images", "annotations/instances_{split}.json"),
        ("JPEGImages", "Annotations/{split}.JSON"),
        ("{split}2017", "annotations/instances_{split}2017.json"),
        ("images/{split}2017", "annotations/instances_{split}2017.json"),
        ("data/{split}", "{split}.json"),
        ("{split}", "{split}/_annotations.coco.json"),
        ("{split}/data", "{split}/labels.json"),
    ],
)
def test_splits_are_files_of_coco(tmp_path: Path, images: str, file: str) -> None:
    write_coco(tmp_path, images, file)
    source = read_boxes(tmp_path)
    assert seen(source) == SCENES and source.names == NAMES and source.warnings == ()


def test_files_of_captions_and_keypoints_are_skipped(tmp_path: Path) -> None:
    for name in ALL["train"]:
        image(tmp_path / "images" / "default" / f"{name}.jpg")
    text(tmp_path / "annotations/instances_default.json", coco(ALL["train"]))
    text(tmp_path / "annotations/captions_default.json", "{}")
    text(tmp_path / "annotations/person_keypoints_default.json", coco({"a": "dog"}))
    assert seen(read_boxes(tmp_path)) == ALL


def test_backslashes_in_file_names_are_separators(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.jpg")
    text(tmp_path / "result.json", coco({"images\\a": "cat"}))
    assert seen(read_boxes(tmp_path)) == {"train": {"a": "cat"}}


ANIMALS = [
    {"id": 0, "name": "animals", "supercategory": "none"},
    {"id": 2, "name": "cat", "supercategory": "animals"},
    {"id": 1, "name": "dog", "supercategory": "animals"},
]


def write_group(root: Path, categories: Any, changed: int | None = None) -> Path:
    for split in ("train", "valid"):
        content = json.loads(coco({f"{split}1": "cat", f"{split}2": "dog"}, categories=categories))
        if changed is not None and split == "valid":
            content["annotations"][0]["category_id"] = changed
        for name in (1, 2):
            image(root / split / f"{split}{name}.jpg")
        text(root / split / "_annotations.coco.json", json.dumps(content))
    return root


def test_a_supercategory_of_all_others_without_boxes_is_not_a_class(tmp_path: Path) -> None:
    splits = read_splits(write_group(tmp_path, ANIMALS))
    assert splits.train.class_names == ("dog", "cat")  # type: ignore[attr-defined]
    (warning,) = splits.warnings
    assert warning.startswith("category 0, 'animals', has no box")
    assert "option class_names" in warning
    kept = read_splits(tmp_path, class_names=("animals", "dog", "cat"))
    assert kept.train.class_names == ("animals", "dog", "cat")  # type: ignore[attr-defined]
    evaluated = read_evaluation(tmp_path, ("animals", "dog", "cat")).samples
    assert [evaluated.target(i).labels for i in range(2)] == [(2,), (1,)]


@pytest.mark.parametrize(
    ("entry", "changed"),
    [
        ({}, 0),  # it has a box in the validation split
        ({"id": 3}, None),
        ({"name": "things"}, None),
        ({"supercategory": "animals", "id": 7}, None),
    ],
    ids=str,
)
def test_a_category_that_may_be_a_class_stays_one(
    tmp_path: Path, entry: dict[str, Any], changed: int | None
) -> None:
    categories = [{**ANIMALS[0], **entry}, *ANIMALS[1:]]
    names = read_boxes(write_group(tmp_path, categories, changed)).names
    assert set(names) == {categories[0]["name"], "cat", "dog"}


# ---- several formats at once, and files that are not part of the dataset ----


def test_of_several_formats_one_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "labels/{name}.txt")
    text(tmp_path / "classes.txt", "dog\ncat\n")
    assert read_boxes(tmp_path).warnings == ()
    write(tmp_path, {"": {"other": "cat"}}, "photos/{name}", "annotations/{name}.xml")
    source = read_boxes(tmp_path)
    assert seen(source) == ALL
    (warning,) = source.warnings
    assert "is read as YOLO; its data in the format of Pascal VOC is skipped" in warning
    text(tmp_path / "annotations" / "instances_train.json", coco({"other": "dog"}))
    source = read_boxes(tmp_path)
    assert seen(source) == {"train": {"other": "dog"}}
    assert (
        "is read as COCO; its data in the format of YOLO and Pascal VOC is skipped"
        in source.warnings[0]
    )


JUNK = ("__MACOSX/train/a.jpg", "__MACOSX/train/._a.xml", ".DS_Store", "Thumbs.db", "._a.xml")


@pytest.mark.parametrize(
    "prepare",
    [
        lambda root: write(root, SCENES, "{split}/{name}", "{split}/{name}.xml"),
        lambda root: write(root, SCENES, "images/{split}/{name}", "labels/{split}/{name}.txt"),
        lambda root: write_coco(root, "{split}", "{split}/_annotations.coco.json"),
    ],
    ids=["voc", "yolo", "coco"],
)
def test_files_of_operating_systems_are_skipped(
    tmp_path: Path, prepare: Callable[[Path], None]
) -> None:
    prepare(tmp_path)
    text(tmp_path / "classes.txt", "dog\ncat\n")
    for folder in [tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())]:
        for name in (*JUNK, "._a.txt", "._a.jpg", "._instances_train.json", ".hidden/a.json"):
            text(folder / name, "no data")
    source = read_boxes(tmp_path)
    assert seen(source) == SCENES and source.warnings == ()


FILES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=4)
PATTERNS = [
    ("{split}/{name}", "{split}/{name}.xml"),
    ("images/{split}/{name}", "annotations/{split}/{name}.xml"),
    ("images/{split}/{name}", "labels/{split}/{name}.txt"),
    ("{split}/images/{name}", "{split}/labels/{name}.txt"),
    ("{split}/{name}", "{split}/{name}.txt"),
]


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(list(SPLITS)), FILES),
        st.sampled_from(["cat", "dog"]),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["", " 1", ".b", "-ü", "_val"]),
    st.sampled_from([".jpg", ".JPEG", ".Png"]),
)
@settings(max_examples=15)
def test_any_names_in_any_splits_are_found_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[tuple[str, str], str],
    ending: str,
    suffix: str,
) -> None:
    scenes: dict[str, dict[str, str | None]] = {}
    for (split, name), label in rows.items():
        scenes.setdefault(split, {})[name + ending] = label
    for images, labels in PATTERNS:
        root = tmp_path_factory.mktemp("layout")
        write(root, scenes, images, labels, suffix)
        text(root / "classes.txt", "dog\ncat\n")
        assert seen(read_boxes(root)) == scenes

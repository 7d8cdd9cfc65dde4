"""The folders that detection data come in: the same images and boxes out of each."""

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
from visiongraft.plugins.detection.formats.reading import find_source

HEIGHT, WIDTH = 40, 60
NAMES = ("dog", "cat")  # by class id, not in alphabetical order
BOX = (6.0, 4.0, 30.0, 24.0)

# For each part and image the label of its only box; none where it has no box.
Scenes = Mapping[str, Mapping[str, str | None]]
SCENES: Scenes = {
    "train": {"a": "cat", "b": "dog", "c": None},
    "val": {"d": "cat", "e f.1": "dog"},
    "test": {"ä": "dog"},
}
ALL: Scenes = {"train": {name: label for part in SCENES.values() for name, label in part.items()}}
PARTS = {"train": "train", "val": "validation", "test": "test"}


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), "gray").save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def xml(path: Path, label: str | None) -> None:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True)
    box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
    found = f"<object><name>{label}</name><bndbox>{box}</bndbox></object>" if label else ""
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    text(path, f"<annotation>{size}{found}</annotation>")


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
    """Write each image and its labels where patterns such as ``"images/{part}/{name}"`` say."""
    for part, rows in scenes.items():
        for name, label in rows.items():
            image(root / (images.format(part=part, name=name) + suffix))
            place = root / labels.format(part=part, name=name)
            if place.suffix.lower() == ".xml":
                xml(place, label)
            elif label:  # no file means no boxes
                text(place, line(label) + "\n")


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
    for part, rows in SCENES.items():
        for name in rows:
            image(root / images.format(part=part) / f"{name}.jpg")
        text(root / file.format(part=part), coco(rows))


def seen(source: BoxDataset) -> dict[str, dict[str, str | None]]:
    """Give what was found in the form of ``SCENES``; each box is where it was written."""
    found: dict[str, dict[str, str | None]] = {}
    for word, part in PARTS.items():
        if part not in source.splits:
            continue
        samples, annotations = source.splits[part].samples, source.splits[part].annotations
        found[word] = {}
        for i, annotation in enumerate(annotations):
            assert samples.load(i).shape == (HEIGHT, WIDTH, 3)
            assert annotation.size == (HEIGHT, WIDTH)
            assert [tuple(round(v, 3) for v in box) for box in annotation.boxes] in ([], [BOX])
            found[word][Path(samples.name(i)).stem] = next(iter(annotation.names), None)
    return found


def test_a_folder_with_nothing_else_in_it_is_looked_into(tmp_path: Path) -> None:
    write(tmp_path / "cats" / "v2", SCENES, "{part}/{name}", "{part}/{name}.xml")
    assert seen(find_source(tmp_path)) == SCENES
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="holds no boxes"):
        find_source(tmp_path)


# ---- Pascal VOC ----


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{part}/{name}", "{part}/{name}.xml"),
        ("{part}/images/{name}", "{part}/annotations/{name}.xml"),
        ("{part}/JPEGImages/{name}", "{part}/Annotations/{name}.xml"),
        ("images/{part}/{name}", "annotations/{part}/{name}.xml"),
        ("Images/{part}/{name}", "xmls/{name}.xml"),
    ],
)
def test_parts_are_folders_of_voc_files(tmp_path: Path, images: str, labels: str) -> None:
    write(tmp_path, SCENES, images, labels)
    source = find_source(tmp_path)
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
def test_voc_files_lie_beside_images_or_in_folders(
    tmp_path: Path, images: str, labels: str
) -> None:
    write(tmp_path, ALL, images, labels, ".JPG")
    source = find_source(tmp_path)
    assert seen(source) == ALL and source.warnings == ()


@pytest.mark.parametrize(
    "words", [("valid", "validation"), ("validation", "val"), ("VALID", "val")]
)
def test_a_part_may_be_called_otherwise_but_is_there_once(
    tmp_path: Path, words: tuple[str, str]
) -> None:
    write(
        tmp_path,
        {"train": {"a": "cat"}, words[0]: {"b": "dog"}},
        "{part}/{name}",
        "{part}/{name}.xml",
    )
    assert seen(find_source(tmp_path)) == {"train": {"a": "cat"}, "val": {"b": "dog"}}
    write(tmp_path, {words[1]: {"c": "dog"}}, "{part}/{name}", "{part}/{name}.xml")
    with pytest.raises(DataError, match="are both of the validation part"):
        find_source(tmp_path)


def test_a_devkit_is_read_by_its_only_year(tmp_path: Path) -> None:
    year = tmp_path / "VOCdevkit" / "VOC2012"
    write(year, ALL, "JPEGImages/{name}", "Annotations/{name}.xml")
    for part, rows in SCENES.items():
        text(year / "ImageSets" / "Main" / f"{part}.txt", "\ufeff" + "\r\n".join(rows) + "\r\n")
    for root in (year, year.parent, tmp_path):
        assert seen(find_source(root)) == SCENES
    write(tmp_path / "VOCdevkit/VOC2007", ALL, "JPEGImages/{name}", "Annotations/{name}.xml")
    with pytest.raises(DataError, match="holds VOC2007 and VOC2012; give one of them") as caught:
        find_source(tmp_path)
    assert "\n" not in str(caught.value)
    assert seen(find_source(year)) == SCENES


def test_lines_of_voc_lists_have_spaces_suffixes_or_a_second_word(tmp_path: Path) -> None:
    write(tmp_path, ALL, "JPEGImages/{name}", "Annotations/{name}.xml")
    text(tmp_path / "ImageSets/Main/train.txt", "a  1\nb.jpg\ne f.1 -1\n")
    text(tmp_path / "ImageSets/Main/val.txt", "e f.1\n")
    found = seen(find_source(tmp_path))
    assert (list(found["train"]), list(found["val"])) == (["a", "b", "e f.1"], ["e f.1"])


def test_other_voc_files_that_could_be_meant_are_named(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "annotations/{name}.xml")
    write(tmp_path, {"val": {"z": "cat"}}, "{part}/{name}", "{part}/{name}.xml")
    write(tmp_path, {"": {"a": "dog"}}, "photos/{name}", "xmls/{name}.xml")
    source = find_source(tmp_path)
    assert seen(source) == ALL
    assert [each.rsplit(": ")[-1] for each in source.warnings] == ["xmls", "photos", "val"]


# ---- YOLO ----


@pytest.mark.parametrize(
    ("images", "labels", "names"),
    [
        ("images/{part}/{name}", "labels/{part}/{name}.txt", "classes.txt"),
        ("Images/{part}/{name}", "Labels/{part}/{name}.TXT", "Labels/classes.txt"),
        ("images/{part}/{name}", "LABELS/{part}/{name}.txt", "classes.txt"),
        ("{part}/images/{name}", "{part}/labels/{name}.txt", "classes.txt"),
        ("{part}/{name}", "{part}/{name}.txt", "train/_darknet.labels"),
        ("{part}/{name}", "{part}/{name}.txt", "obj.names"),
    ],
)
def test_parts_are_folders_of_yolo_files(
    tmp_path: Path, images: str, labels: str, names: str
) -> None:
    root = tmp_path / "images"  # a folder further up of this name changes nothing
    write(root, SCENES, images, labels)
    text(root / names, "\ufeffdog\r\ncat\r\n")
    source = find_source(root)
    assert seen(source) == SCENES and source.names == NAMES and source.warnings == ()


def test_yolo_files_may_lie_beside_their_images(tmp_path: Path) -> None:
    write(tmp_path, ALL, "{name}", "{name}.txt", ".JPEG")
    with pytest.raises(DataError, match="holds no boxes"):
        find_source(tmp_path)  # texts beside images may be anything
    text(tmp_path / "classes.txt", "dog\ncat\n")
    assert seen(find_source(tmp_path)) == ALL


def test_names_of_the_parts_that_differ_are_refused(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{part}/{name}", "{part}/{name}.txt")
    text(tmp_path / "train/_darknet.labels", "dog\ncat\n")
    text(tmp_path / "val/_darknet.labels", "cat\ndog\n")
    with pytest.raises(DataError, match="name different classes; keep one"):
        find_source(tmp_path)


def test_a_yolo_folder_beside_the_parts_is_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        {**SCENES, "more": {"z": "cat"}},
        "images/{part}/{name}",
        "labels/{part}/{name}.txt",
    )
    text(tmp_path / "classes.txt", "dog\ncat\n")
    source = find_source(tmp_path)
    assert seen(source) == SCENES and source.warnings[0].endswith("passed over: more")


ROBOFLOW = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\n"


def roboflow(root: Path, *parts: str) -> Path:
    scenes = {word: SCENES[part] for word, part in (("train", "train"), ("valid", "val"))}
    scenes = {word: rows for word, rows in scenes.items() if word in parts}
    write(root, scenes, "{part}/images/{name}", "{part}/labels/{name}.txt")
    text(root / "data.yaml", f"\ufeff{ROBOFLOW}names: ['dog', 'cat']\n")
    return root


def test_a_test_part_that_was_not_downloaded_is_a_warning(tmp_path: Path) -> None:
    splits = read_splits(roboflow(tmp_path, "train", "valid"))
    assert (len(splits.train), len(splits.validation)) == (3, 2)
    assert splits.facts["validation from"] == "the data's own part"
    (callbacks,) = [w for w in splits.warnings if "does not exist" in w]
    assert "data.yaml names ../test/images" in callbacks and "test part" in callbacks
    assert len(read_evaluation(tmp_path, NAMES)) == 2


def test_without_the_validation_part_some_images_are_held_out_and_it_is_said(
    tmp_path: Path,
) -> None:
    root = roboflow(tmp_path, "train")
    for name in "gh":
        write(root, {"train": {name: "dog"}}, "{part}/images/{name}", "{part}/labels/{name}.txt")
    splits = read_splits(root, validation=0.4)
    assert splits.facts["validation from"].startswith("40% of the training images")
    assert any("../valid/images, which does not exist" in w for w in splits.warnings)
    assert any("held out instead of the validation part" in w for w in splits.warnings)
    with pytest.raises(DataError, match="have only training images; the validation and test"):
        read_evaluation(root, NAMES)  # never measured on training images without a word


def test_training_images_that_are_missing_stop(tmp_path: Path) -> None:
    roboflow(tmp_path, "valid")
    with pytest.raises(DataError, match=r"names \.\./train/images, which does not exist"):
        find_source(tmp_path)
    (tmp_path / "train" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"names \.\./train/images, which holds no images"):
        find_source(tmp_path)


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
def test_names_in_a_yaml_file_are_a_list_or_by_id_or_only_counted(
    tmp_path: Path, names: str, expected: tuple[str, ...]
) -> None:
    write(tmp_path, ALL, "images/{name}", "labels/{name}.txt")
    text(tmp_path / "data.yaml", f"train: images\n{names}\n")
    source = find_source(tmp_path)
    assert source.names == expected
    callbacks = {
        "nc: 2": "class ids are taken for names",
        "nc: 3\nnames: [dog, cat]": "names 2 classes",
    }
    assert [callbacks[names] in w for w in source.warnings] == (
        [True] if names in callbacks else []
    )


def test_places_in_a_yaml_file_are_lists_and_several_folders(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "images/{part}/{name}", "labels/{part}/{name}.txt")
    rows = [f"./images/train/{name}.jpg" for name in SCENES["train"]]
    text(tmp_path / "train.txt", "\ufeff" + "\r\n".join(rows) + "\r\n")
    text(tmp_path / "val.txt", "\n".join(f".\\images\\val\\{n}.jpg" for n in SCENES["val"]))
    text(
        tmp_path / "data.yaml",
        "path: ../datasets/elsewhere\ntrain: train.txt\nval: val.txt\ntest: images\\test\n"
        "names: [dog, cat]\n",
    )
    assert seen(find_source(tmp_path)) == SCENES
    text(
        tmp_path / "data.yaml", "train: [images/train, images/val, images/test]\nnames: [dog, cat]"
    )
    assert seen(find_source(tmp_path)) == ALL
    text(tmp_path / "data.yaml", "train: {a: b}\nnames: [dog, cat]")
    with pytest.raises(DataError, match="is no folder or list of folders"):
        find_source(tmp_path)


def test_windows_line_ends_and_marks_in_label_files_change_nothing(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "labels/{name}.txt", ".PNG")
    for file in (tmp_path / "labels").iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    text(tmp_path / "classes.txt", "dog\ncat\n")
    assert seen(find_source(tmp_path)) == ALL


# ---- COCO ----


@pytest.mark.parametrize(
    ("images", "file"),
    [
        ("images", "annotations/instances_{part}.json"),
        ("JPEGImages", "Annotations/{part}.JSON"),
        ("{part}2017", "annotations/instances_{part}2017.json"),
        ("images/{part}2017", "annotations/instances_{part}2017.json"),
        ("data/{part}", "{part}.json"),
        ("{part}", "{part}/_annotations.coco.json"),
        ("{part}/data", "{part}/labels.json"),
    ],
)
def test_parts_are_files_of_coco(tmp_path: Path, images: str, file: str) -> None:
    write_coco(tmp_path, images, file)
    source = find_source(tmp_path)
    assert seen(source) == SCENES and source.names == NAMES and source.warnings == ()


def test_files_of_captions_and_keypoints_are_no_boxes(tmp_path: Path) -> None:
    for name in ALL["train"]:
        image(tmp_path / "images" / "default" / f"{name}.jpg")
    text(tmp_path / "annotations/instances_default.json", coco(ALL["train"]))
    text(tmp_path / "annotations/captions_default.json", "{}")
    text(tmp_path / "annotations/person_keypoints_default.json", coco({"a": "dog"}))
    assert seen(find_source(tmp_path)) == ALL


def test_backslashes_in_file_names_are_separators(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.jpg")
    text(tmp_path / "result.json", coco({"images\\a": "cat"}))
    assert seen(find_source(tmp_path)) == {"train": {"a": "cat"}}


ANIMALS = [
    {"id": 0, "name": "animals", "supercategory": "none"},
    {"id": 2, "name": "cat", "supercategory": "animals"},
    {"id": 1, "name": "dog", "supercategory": "animals"},
]


def write_group(root: Path, categories: Any, changed: int | None = None) -> Path:
    for part in ("train", "valid"):
        content = json.loads(coco({f"{part}1": "cat", f"{part}2": "dog"}, categories=categories))
        if changed is not None and part == "valid":
            content["annotations"][0]["category_id"] = changed
        for name in (1, 2):
            image(root / part / f"{part}{name}.jpg")
        text(root / part / "_annotations.coco.json", json.dumps(content))
    return root


def test_an_entry_for_all_others_without_boxes_is_no_label(tmp_path: Path) -> None:
    splits = read_splits(write_group(tmp_path, ANIMALS))
    assert splits.train.labels == ("dog", "cat")  # type: ignore[attr-defined]
    (callbacks,) = splits.warnings
    assert (
        callbacks.startswith("category 0, 'animals', has no box") and "option labels" in callbacks
    )
    kept = read_splits(tmp_path, labels=("animals", "dog", "cat"))
    assert kept.train.labels == ("animals", "dog", "cat")  # type: ignore[attr-defined]
    evaluated = read_evaluation(tmp_path, ("animals", "dog", "cat"))
    assert [evaluated.target(i).labels for i in range(2)] == [(2,), (1,)]


@pytest.mark.parametrize(
    ("entry", "changed"),
    [
        ({}, 0),  # it has a box in the validation part
        ({"id": 3}, None),
        ({"name": "things"}, None),
        ({"supercategory": "animals", "id": 7}, None),
    ],
    ids=str,
)
def test_an_entry_that_may_be_a_label_stays_one(
    tmp_path: Path, entry: dict[str, Any], changed: int | None
) -> None:
    categories = [{**ANIMALS[0], **entry}, *ANIMALS[1:]]
    names = find_source(write_group(tmp_path, categories, changed)).names
    assert set(names) == {categories[0]["name"], "cat", "dog"}


# ---- several forms at once, and what is none of the data ----


def test_of_several_forms_one_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "labels/{name}.txt")
    text(tmp_path / "classes.txt", "dog\ncat\n")
    assert find_source(tmp_path).warnings == ()
    write(tmp_path, {"": {"other": "cat"}}, "photos/{name}", "annotations/{name}.xml")
    source = find_source(tmp_path)
    assert seen(source) == ALL
    (callbacks,) = source.warnings
    assert "in the form of YOLO; what is there in that of Pascal VOC is passed over" in callbacks
    text(tmp_path / "annotations" / "instances_train.json", coco({"other": "dog"}))
    source = find_source(tmp_path)
    assert seen(source) == {"train": {"other": "dog"}}
    assert "form of COCO; what is there in that of YOLO and Pascal VOC" in source.warnings[0]


JUNK = ("__MACOSX/train/a.jpg", "__MACOSX/train/._a.xml", ".DS_Store", "Thumbs.db", "._a.xml")


@pytest.mark.parametrize(
    "prepare",
    [
        lambda root: write(root, SCENES, "{part}/{name}", "{part}/{name}.xml"),
        lambda root: write(root, SCENES, "images/{part}/{name}", "labels/{part}/{name}.txt"),
        lambda root: write_coco(root, "{part}", "{part}/_annotations.coco.json"),
    ],
    ids=["voc", "yolo", "coco"],
)
def test_what_systems_leave_behind_is_passed_over(
    tmp_path: Path, prepare: Callable[[Path], None]
) -> None:
    prepare(tmp_path)
    text(tmp_path / "classes.txt", "dog\ncat\n")
    for folder in [tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())]:
        for name in (*JUNK, "._a.txt", "._a.jpg", "._instances_train.json", ".hidden/a.json"):
            text(folder / name, "no data")
    source = find_source(tmp_path)
    assert seen(source) == SCENES and source.warnings == ()


FILES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=4)
PATTERNS = [
    ("{part}/{name}", "{part}/{name}.xml"),
    ("images/{part}/{name}", "annotations/{part}/{name}.xml"),
    ("images/{part}/{name}", "labels/{part}/{name}.txt"),
    ("{part}/images/{name}", "{part}/labels/{name}.txt"),
    ("{part}/{name}", "{part}/{name}.txt"),
]


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(list(PARTS)), FILES),
        st.sampled_from(["cat", "dog"]),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["", " 1", ".b", "-ü", "_val"]),
    st.sampled_from([".jpg", ".JPEG", ".Png"]),
)
@settings(max_examples=15, deadline=None)
def test_any_names_in_any_parts_are_found_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[tuple[str, str], str],
    ending: str,
    suffix: str,
) -> None:
    scenes: dict[str, dict[str, str | None]] = {}
    for (part, name), label in rows.items():
        scenes.setdefault(part, {})[name + ending] = label
    for images, labels in PATTERNS:
        root = tmp_path_factory.mktemp("layout")
        write(root, scenes, images, labels, suffix)
        text(root / "classes.txt", "dog\ncat\n")
        assert seen(find_source(root)) == scenes

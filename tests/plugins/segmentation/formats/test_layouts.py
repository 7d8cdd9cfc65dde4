"""The folders that segmentation data come in: the same images and masks out of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visiongraft.errors import DataError
from visiongraft.plugins.segmentation.data import MaskedSamples, read_labeled, read_splits
from visiongraft.plugins.segmentation.formats.layouts import MaskedFiles, read_folder

CLASSES = "sky\nroad\ncar\n"
COLORS = np.array([[128, 128, 128], [1, 2, 3], [0, 0, 0]], np.uint8)

# For each part and image the only value in its mask.
Scenes = Mapping[str, Mapping[str, int]]
SCENES: Scenes = {
    "train": {"a": 0, "b": 1, "c": 2},
    "val": {"d": 2, "e f.1": 0},
    "test": {"ä": 1},
}
ALL: Scenes = {"train": {name: value for part in SCENES.values() for name, value in part.items()}}
PARTS = {"train": "train", "val": "validation", "test": "test"}


def image(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def write(
    root: Path,
    scenes: Scenes,
    images: str,
    masks: str,
    suffix: str = ".jpg",
    table: Any = None,
) -> None:
    """Write images and masks where patterns such as ``"images/{part}/{name}"`` say."""
    for part, rows in scenes.items():
        for name, value in rows.items():
            image(root / (images.format(part=part, name=name) + suffix), np.full((4, 6, 3), 90))
            mask = np.full((4, 6), value, np.uint8)
            image(
                root / (masks.format(part=part, name=name) + ".png"),
                mask if table is None else table[mask],
            )


def seen(found: MaskedFiles) -> dict[str, dict[str, Any]]:
    """Give what was found in the form of ``SCENES``."""
    words = {part: word for word, part in PARTS.items()}
    return {
        words[part]: {
            image.stem: np.asarray(Image.open(mask)).item(0)  # type: ignore[arg-type]
            for image, mask in pairs
        }
        for part, pairs in found.splits.items()
    }


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{part}/{name}", "masks/{part}/{name}"),
        ("images/{part}/{name}", "labels/{part}/{name}"),
        ("img_dir/{part}/{name}", "ann_dir/{part}/{name}"),
        ("Images/{part}/{name}", "Ground_Truth/{part}/{name}_gt"),
        ("{part}/images/{name}", "{part}/masks/{name}"),
        ("{part}/image/{name}", "{part}/label/{name}"),
        ("{part}/JPEGImages/{name}", "{part}/SegmentationClass/{name}"),
        ("{part}/{name}", "{part}/{name}_mask"),
        ("{part}/{name}", "{part}_labels/{name}_L"),
        ("{part}/{name}", "{part}annot/{name}"),
        ("{part}_images/{name}", "{part}_masks/{name}"),
        ("images_{part}/{name}", "masks-{part}/{name}"),
        ("IMG/{part}/{name}", "GT/{part}/{name}"),
    ],
)
def test_parts_are_folders(tmp_path: Path, images: str, masks: str) -> None:
    write(tmp_path, SCENES, images, masks)
    (tmp_path / "classes.txt").write_bytes("\ufeffsky\r\nroad\r\ncar\r\n".encode())
    found = read_folder(tmp_path)
    assert seen(found) == SCENES and found.warnings == () and not found.several
    splits = read_splits(tmp_path)
    assert splits.train.labels == ("sky", "road", "car")  # type: ignore[attr-defined]
    assert (len(splits.train), len(splits.validation)) == (3, 2)


def test_a_folder_with_nothing_else_in_it_is_looked_into(tmp_path: Path) -> None:
    write(tmp_path / "camvid" / "v2", SCENES, "images/{part}/{name}", "masks/{part}/{name}")
    assert seen(read_folder(tmp_path)) == SCENES
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="holds no folders images and masks"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{name}", "{name}_mask"),
        ("{name}", "{name}_L"),
        ("images/{name}", "annotations/{name}"),
        ("jpegimages/{name}", "annotations/trimaps/{name}"),
        ("imgs/{name}", "gt/{name}"),
    ],
)
def test_images_that_are_not_divided_are_all_for_training(
    tmp_path: Path, images: str, masks: str
) -> None:
    write(tmp_path, ALL, images, masks, ".JPG")
    found = read_folder(tmp_path)
    assert seen(found) == ALL and found.warnings == ()


def test_parts_may_have_long_names(tmp_path: Path) -> None:
    scenes = {"training": SCENES["train"], "validation": SCENES["val"]}
    write(tmp_path, scenes, "images/{part}/{name}", "annotations/{part}/{name}")
    assert seen(read_folder(tmp_path)) == {"train": SCENES["train"], "val": SCENES["val"]}


def test_color_masks_beside_the_parts_are_read_by_their_table(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{part}/{name}", "{part}_labels/{name}_L", ".png", COLORS)
    rows = zip(CLASSES.split(), COLORS.tolist(), strict=True)
    lines = ["name,r,g,b", *(f"{name},{r},{g},{b}" for name, (r, g, b) in rows)]
    (tmp_path / "class_dict.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    splits = read_splits(tmp_path)
    values = [np.unique(splits.train.target(i)).tolist() for i in range(3)]
    assert values == [[0], [1], [2]]


def test_values_and_names_in_each_part_are_read(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{part}/{name}", "{part}/{name}_mask")
    for part in SCENES:
        table = "Pixel Value, Class\n0, sky\n1, road\n2, car\n"
        (tmp_path / part / "_classes.csv").write_text(table)
    assert read_folder(tmp_path).names == ("sky", "road", "car")
    (tmp_path / "val" / "_classes.csv").write_text("Pixel Value, Class\n0, road\n1, sky\n2, car\n")
    with pytest.raises(DataError, match="name different classes; keep one of the files"):
        read_folder(tmp_path)
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, sky\n2, car\n")
    with pytest.raises(DataError, match="value and name, from 0 without a gap"):
        read_folder(tmp_path)


def test_a_devkit_is_read_by_its_only_year(tmp_path: Path) -> None:
    year = tmp_path / "VOCdevkit" / "VOC2012"
    write(year, ALL, "JPEGImages/{name}", "SegmentationClass/{name}")
    lists = year / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for part, rows in SCENES.items():
        (lists / f"{part}.txt").write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    for root in (year, year.parent, tmp_path):
        found = read_folder(root)
        assert seen(found) == SCENES and len(found.names) == 21
    write(tmp_path / "VOCdevkit/VOC2007", ALL, "JPEGImages/{name}", "SegmentationClass/{name}")
    with pytest.raises(DataError, match="holds VOC2007 and VOC2012; give one of them"):
        read_folder(tmp_path)


def test_one_folder_per_class_may_be_in_each_part(tmp_path: Path) -> None:
    for name, value in (("leaf", 1), ("dirt", 0)):
        scenes = {part: dict.fromkeys(rows, value) for part, rows in SCENES.items()}
        write(tmp_path, scenes, "{part}/images/{name}", f"{{part}}/labels/{name}/{{name}}")
    splits = read_splits(tmp_path)
    assert isinstance(splits.train, MaskedSamples)
    assert (splits.train.kind, splits.train.labels) == ("multi_label", ("dirt", "leaf"))
    assert splits.train.target(0)[:, 0, 0].tolist() == [0, 1]


def test_class_names_that_the_data_lack_are_an_option(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{part}/{name}", "{part}annot/{name}")
    with pytest.raises(DataError, match=r"give the names as the option labels.*are 0, 1, 2"):
        read_splits(tmp_path)
    splits = read_splits(tmp_path, labels=("sky", "road", "car"))
    assert np.unique(splits.train.target(2)).tolist() == [2]
    tested = read_labeled(tmp_path, ("sky", "road", "car"), "multi_class")
    assert [np.unique(tested.target(i)).tolist() for i in range(len(tested))] == [[1]]
    wrong = read_splits(tmp_path, labels=("sky", "road"))
    assert "no classes: 2" in wrong.train.problem(2, 4, 6)


def test_lines_of_lists_may_name_the_mask_too_or_have_backslashes(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "masks/{name}")
    (tmp_path / "train.txt").write_text("images/a.jpg masks/a.png\nimages\\b.jpg\ne f.1\n")
    assert list(seen(read_folder(tmp_path))["train"]) == ["a", "b", "e f.1"]


def test_an_image_without_a_mask_beside_it_is_told_by_the_name_it_lacks(tmp_path: Path) -> None:
    write(tmp_path, {"": {"a": 1, "b": 0}}, "{name}", "{name}_L")
    image(tmp_path / "c.jpg", np.zeros((4, 6, 3)))
    splits = read_splits(tmp_path, labels=("sky", "road"), validation=0.4)
    problems = [
        s.problem(i, 4, 6) for s in (splits.train, splits.validation) for i in range(len(s))
    ]
    (callbacks,) = filter(None, problems)
    assert "c.jpg: has no mask" in callbacks and "c_L.png does not exist" in callbacks


# ---- what could be meant too ----


def test_folders_that_could_be_meant_too_are_named(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "masks/{name}")
    assert read_folder(tmp_path).warnings == ()
    write(tmp_path, {"": {"z": 1}}, "photos/{name}", "labels/{name}")
    write(tmp_path, {"val": {"y": 1}}, "{part}/{name}", "{part}_masks/{name}")
    found = read_folder(tmp_path)
    assert seen(found) == ALL
    assert [line.split("passed over: ")[1] for line in found.warnings] == [
        "photos, labels",
        "val_masks",
    ]


def test_pascal_vocs_own_folders_come_first(tmp_path: Path) -> None:
    write(tmp_path, ALL, "JPEGImages/{name}", "SegmentationClass/{name}")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation/>")
    assert read_folder(tmp_path).warnings == ()
    write(tmp_path, {"": {"z": 1}}, "images/{name}", "masks/{name}")
    found = read_folder(tmp_path)
    assert seen(found) == ALL and len(found.names) == 21
    assert found.warnings[0].endswith("passed over: images, masks")


def test_a_part_without_masks_and_lists_beside_the_parts_are_named(tmp_path: Path) -> None:
    scenes = {"train": SCENES["train"], "val": SCENES["val"]}
    write(tmp_path, scenes, "{part}/{name}", "{part}_labels/{name}")
    image(tmp_path / "test" / "x.jpg", np.zeros((4, 6, 3)))
    (tmp_path / "train.txt").write_text("a\n")
    found = read_folder(tmp_path)
    assert seen(found) == scenes
    assert found.warnings[0].endswith("passed over: test, train.txt")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("val/{name}", "val_labels/{name}"), ("validation/{name}", "validation_labels/{name}")),
        (("val/{name}", "val_labels/{name}"), ("val/{name}", "valannot/{name}")),
        (("val/images/{name}", "val/masks/{name}"), ("valid/images/{name}", "valid/masks/{name}")),
    ],
)
def test_two_folders_of_one_part_are_refused(
    tmp_path: Path, one: tuple[str, str], other: tuple[str, str]
) -> None:
    for images, masks in (one, other):
        write(tmp_path, {"": {"a": 1}}, images, masks)
    with pytest.raises(DataError, match="are both of the validation part") as caught:
        read_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_labels_that_are_no_images_are_no_masks(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "annotations/{name}")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    found = read_folder(tmp_path)
    assert seen(found) == ALL and found.warnings == ()


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{part}/images/{name}", "{part}/masks/{name}")
    for folder in [tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "._a.png", "__MACOSX/a.png", "__MACOSX/._a.png"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"no data")
    found = read_folder(tmp_path)
    assert seen(found) == SCENES and found.warnings == ()


def test_no_image_is_decoded_to_find_the_layout(tmp_path: Path) -> None:
    for name in ("train/a.jpg", "train_labels/a.png", "val/b.jpg", "val_labels/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    found = read_folder(tmp_path)
    assert {part: len(pairs) for part, pairs in found.splits.items()} == {
        "train": 1,
        "validation": 1,
    }


FILES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=4)
PATTERNS = [
    ("images/{part}/{name}", "masks/{part}/{name}"),
    ("{part}/images/{name}", "{part}/labels/{name}"),
    ("{part}/{name}", "{part}/{name}_mask"),
    ("{part}/{name}", "{part}_labels/{name}_L"),
    ("{part}_img/{name}", "{part}annot/{name}"),
]


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(list(PARTS)), FILES), st.integers(0, 2), min_size=1, max_size=8
    ),
    st.sampled_from(["", " 1", ".b", "-ü", "_val"]),
    st.sampled_from([".jpg", ".JPEG", ".Png"]),
)
@settings(max_examples=15, deadline=None)
def test_any_names_in_any_parts_are_found_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[tuple[str, str], int],
    ending: str,
    suffix: str,
) -> None:
    scenes: dict[str, dict[str, int]] = {}
    for (part, name), value in rows.items():
        scenes.setdefault(part, {})[name + ending] = value
    for images, masks in PATTERNS:
        root = tmp_path_factory.mktemp("layout")
        write(root, scenes, images, masks, suffix)
        assert seen(read_folder(root)) == scenes

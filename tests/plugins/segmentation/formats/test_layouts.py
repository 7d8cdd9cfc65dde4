"""Read the same images and masks from every folder layout."""

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
from visiongraft.plugins.segmentation.data import MaskedSamples, read_evaluation, read_splits
from visiongraft.plugins.segmentation.formats.dataset import MaskDataset
from visiongraft.plugins.segmentation.formats.layouts import read_folder
from visiongraft.plugins.segmentation.formats.reading import read_path

CLASSES = "sky\nroad\ncar\n"
COLORS = np.array([[128, 128, 128], [1, 2, 3], [0, 0, 0]], np.uint8)

# By split and image, the only value in its mask.
Scenes = Mapping[str, Mapping[str, int]]
SCENES: Scenes = {
    "train": {"a": 0, "b": 1, "c": 2},
    "val": {"d": 2, "e f.1": 0},
    "test": {"ä": 1},
}
ALL: Scenes = {"train": {name: value for split in SCENES.values() for name, value in split.items()}}
SPLITS = {"train": "train", "val": "validation", "test": "test"}


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
    """Write images and masks to paths such as ``"images/{split}/{name}"``."""
    for split, rows in scenes.items():
        for name, value in rows.items():
            image(root / (images.format(split=split, name=name) + suffix), np.full((4, 6, 3), 90))
            mask = np.full((4, 6), value, np.uint8)
            image(
                root / (masks.format(split=split, name=name) + ".png"),
                mask if table is None else table[mask],
            )


def seen(found: MaskDataset) -> dict[str, dict[str, Any]]:
    """Return the files in the form of ``SCENES``."""
    words = {split: word for word, split in SPLITS.items()}
    return {
        words[split]: {
            image.stem: np.asarray(Image.open(mask)).item(0)  # type: ignore[arg-type]
            for image, mask in zip(samples.paths, samples.targets, strict=True)  # type: ignore[attr-defined]
        }
        for split, samples in found.splits.items()
    }


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{split}/{name}", "masks/{split}/{name}"),
        ("images/{split}/{name}", "labels/{split}/{name}"),
        ("img_dir/{split}/{name}", "ann_dir/{split}/{name}"),
        ("Images/{split}/{name}", "Ground_Truth/{split}/{name}_gt"),
        ("{split}/images/{name}", "{split}/masks/{name}"),
        ("{split}/image/{name}", "{split}/label/{name}"),
        ("{split}/JPEGImages/{name}", "{split}/SegmentationClass/{name}"),
        ("{split}/{name}", "{split}/{name}_mask"),
        ("{split}/{name}", "{split}_labels/{name}_L"),
        ("{split}/{name}", "{split}annot/{name}"),
        ("{split}_images/{name}", "{split}_masks/{name}"),
        ("images_{split}/{name}", "masks-{split}/{name}"),
        ("IMG/{split}/{name}", "GT/{split}/{name}"),
    ],
)
def test_splits_are_folders(tmp_path: Path, images: str, masks: str) -> None:
    write(tmp_path, SCENES, images, masks)
    (tmp_path / "classes.txt").write_bytes("\ufeffsky\r\nroad\r\ncar\r\n".encode())
    found = read_folder(tmp_path)
    assert seen(found) == SCENES and found.warnings == () and not found.mask_per_class
    splits = read_splits(tmp_path)
    assert splits.train.class_names == ("sky", "road", "car")  # type: ignore[attr-defined]
    assert (len(splits.train), len(splits.validation)) == (3, 2)


def test_a_nested_folder_is_read(tmp_path: Path) -> None:
    write(tmp_path / "camvid" / "v2", SCENES, "images/{split}/{name}", "masks/{split}/{name}")
    assert seen(read_path(tmp_path)) == SCENES
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="contains no folders images and masks"):
        read_path(tmp_path)


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
def test_without_splits_all_images_are_for_training(
    tmp_path: Path, images: str, masks: str
) -> None:
    write(tmp_path, ALL, images, masks, ".JPG")
    found = read_folder(tmp_path)
    assert seen(found) == ALL and found.warnings == ()


def test_splits_may_have_long_names(tmp_path: Path) -> None:
    scenes = {"training": SCENES["train"], "validation": SCENES["val"]}
    write(tmp_path, scenes, "images/{split}/{name}", "annotations/{split}/{name}")
    assert seen(read_folder(tmp_path)) == {"train": SCENES["train"], "val": SCENES["val"]}


def test_color_masks_are_read_with_a_table_of_colors(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{split}/{name}", "{split}_labels/{name}_L", ".png", COLORS)
    rows = zip(CLASSES.split(), COLORS.tolist(), strict=True)
    lines = ["name,r,g,b", *(f"{name},{r},{g},{b}" for name, (r, g, b) in rows)]
    (tmp_path / "class_dict.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    splits = read_splits(tmp_path)
    values = [np.unique(splits.train.target(i)).tolist() for i in range(3)]
    assert values == [[0], [1], [2]]


def test_class_files_in_the_folders_of_splits_are_read(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{split}/{name}", "{split}/{name}_mask")
    for split in SCENES:
        table = "Pixel Value, Class\n0, sky\n1, road\n2, car\n"
        (tmp_path / split / "_classes.csv").write_text(table)
    assert read_folder(tmp_path).names == ("sky", "road", "car")
    (tmp_path / "val" / "_classes.csv").write_text("Pixel Value, Class\n0, road\n1, sky\n2, car\n")
    with pytest.raises(DataError, match="contain different classes; keep one of the files"):
        read_folder(tmp_path)
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, sky\n2, car\n")
    with pytest.raises(DataError, match="value and name, with values from 0 without gaps"):
        read_folder(tmp_path)


def test_a_devkit_is_read_by_its_only_year(tmp_path: Path) -> None:
    year = tmp_path / "VOCdevkit" / "VOC2012"
    write(year, ALL, "JPEGImages/{name}", "SegmentationClass/{name}")
    lists = year / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, rows in SCENES.items():
        (lists / f"{split}.txt").write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    for root in (year, year.parent, tmp_path):
        found = read_folder(root)
        assert seen(found) == SCENES and len(found.names) == 21
    write(tmp_path / "VOCdevkit/VOC2007", ALL, "JPEGImages/{name}", "SegmentationClass/{name}")
    with pytest.raises(DataError, match="contains VOC2007 and VOC2012; pass one of them"):
        read_folder(tmp_path)


def test_folders_per_class_may_be_in_the_folders_of_splits(tmp_path: Path) -> None:
    for name, value in (("leaf", 1), ("dirt", 0)):
        scenes = {split: dict.fromkeys(rows, value) for split, rows in SCENES.items()}
        write(tmp_path, scenes, "{split}/images/{name}", f"{{split}}/labels/{name}/{{name}}")
    splits = read_splits(tmp_path)
    assert isinstance(splits.train, MaskedSamples)
    assert (splits.train.kind, splits.train.class_names) == ("multi_label", ("dirt", "leaf"))
    assert splits.train.target(0)[:, 0, 0].tolist() == [0, 1]


def test_missing_class_names_can_be_an_option(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{split}/{name}", "{split}annot/{name}")
    with pytest.raises(DataError, match=r"set class_names.*contain 0, 1, 2"):
        read_splits(tmp_path)
    splits = read_splits(tmp_path, class_names=("sky", "road", "car"))
    assert np.unique(splits.train.target(2)).tolist() == [2]
    tested = read_evaluation(tmp_path, ("sky", "road", "car"), "multi_class").samples
    assert [np.unique(tested.target(i)).tolist() for i in range(len(tested))] == [[1]]
    wrong = read_splits(tmp_path, class_names=("sky", "road"))
    assert "not classes: 2" in wrong.train.problem(2, 4, 6)


def test_lists_may_contain_mask_names_and_backslashes(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "masks/{name}")
    (tmp_path / "train.txt").write_text("images/a.jpg masks/a.png\nimages\\b.jpg\ne f.1\n")
    assert list(seen(read_folder(tmp_path))["train"]) == ["a", "b", "e f.1"]


def test_a_missing_mask_is_reported_by_the_expected_name(tmp_path: Path) -> None:
    write(tmp_path, {"": {"a": 1, "b": 0}}, "{name}", "{name}_L")
    image(tmp_path / "c.jpg", np.zeros((4, 6, 3)))
    splits = read_splits(tmp_path, class_names=("sky", "road"), validation=0.4)
    problems = [
        s.problem(i, 4, 6) for s in (splits.train, splits.validation) for i in range(len(s))
    ]
    (problem,) = filter(None, problems)
    assert "c.jpg: has no mask" in problem and "c_L.png does not exist" in problem


# ---- ambiguous folders ----


def test_ignored_folders_cause_warnings(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "masks/{name}")
    assert read_folder(tmp_path).warnings == ()
    write(tmp_path, {"": {"z": 1}}, "photos/{name}", "labels/{name}")
    write(tmp_path, {"val": {"y": 1}}, "{split}/{name}", "{split}_masks/{name}")
    found = read_folder(tmp_path)
    assert seen(found) == ALL
    assert [line.split("skipped: ")[1] for line in found.warnings] == [
        "photos, labels",
        "val_masks",
    ]


def test_the_folders_of_pascal_voc_take_precedence(tmp_path: Path) -> None:
    write(tmp_path, ALL, "JPEGImages/{name}", "SegmentationClass/{name}")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation/>")
    (assumed,) = read_folder(tmp_path).warnings
    assert "VOC's own 21 classes are assumed" in assumed
    write(tmp_path, {"": {"z": 1}}, "images/{name}", "masks/{name}")
    found = read_folder(tmp_path)
    assert seen(found) == ALL and len(found.names) == 21
    assert found.warnings[0].endswith("skipped: images, masks")


def test_a_split_without_masks_and_ignored_lists_cause_a_warning(tmp_path: Path) -> None:
    scenes = {"train": SCENES["train"], "val": SCENES["val"]}
    write(tmp_path, scenes, "{split}/{name}", "{split}_labels/{name}")
    image(tmp_path / "test" / "x.jpg", np.zeros((4, 6, 3)))
    (tmp_path / "train.txt").write_text("a\n")
    found = read_folder(tmp_path)
    assert seen(found) == scenes
    assert found.warnings[0].endswith("skipped: test, train.txt")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("val/{name}", "val_labels/{name}"), ("validation/{name}", "validation_labels/{name}")),
        (("val/{name}", "val_labels/{name}"), ("val/{name}", "valannot/{name}")),
        (("val/images/{name}", "val/masks/{name}"), ("valid/images/{name}", "valid/masks/{name}")),
    ],
)
def test_two_folders_of_one_split_raise(
    tmp_path: Path, one: tuple[str, str], other: tuple[str, str]
) -> None:
    for images, masks in (one, other):
        write(tmp_path, {"": {"a": 1}}, images, masks)
    with pytest.raises(DataError, match="are both of the validation split") as caught:
        read_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_labels_that_are_not_images_are_not_masks(tmp_path: Path) -> None:
    write(tmp_path, ALL, "images/{name}", "annotations/{name}")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    found = read_folder(tmp_path)
    assert seen(found) == ALL and found.warnings == ()


def test_system_files_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, SCENES, "{split}/images/{name}", "{split}/masks/{name}")
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
    assert {split: len(pairs) for split, pairs in found.splits.items()} == {
        "train": 1,
        "validation": 1,
    }


FILES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=4)
PATTERNS = [
    ("images/{split}/{name}", "masks/{split}/{name}"),
    ("{split}/images/{name}", "{split}/labels/{name}"),
    ("{split}/{name}", "{split}/{name}_mask"),
    ("{split}/{name}", "{split}_labels/{name}_L"),
    ("{split}_img/{name}", "{split}annot/{name}"),
]


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(list(SPLITS)), FILES), st.integers(0, 2), min_size=1, max_size=8
    ),
    st.sampled_from(["", " 1", ".b", "-ü", "_val"]),
    st.sampled_from([".jpg", ".JPEG", ".Png"]),
)
@settings(max_examples=15)
def test_any_names_in_any_splits_are_found_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[tuple[str, str], int],
    ending: str,
    suffix: str,
) -> None:
    scenes: dict[str, dict[str, int]] = {}
    for (split, name), value in rows.items():
        scenes.setdefault(split, {})[name + ending] = value
    for images, masks in PATTERNS:
        root = tmp_path_factory.mktemp("layout")
        write(root, scenes, images, masks, suffix)
        assert seen(read_folder(root)) == scenes

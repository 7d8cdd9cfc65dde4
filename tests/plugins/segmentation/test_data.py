from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visiongraft.data.check import check_samples
from visiongraft.data.digests import digest_of
from visiongraft.data.readers import DataReader, DataSplits
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, OptionError
from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.segmentation.data import MaskedSamples, read_evaluation, read_splits
from visiongraft.plugins.segmentation.formats import masks
from visiongraft.registry.manager import PluginManager, using

WriteSet = Callable[..., Path]
IMAGE = np.zeros((2, 3, 3), np.uint8)
A, B = [[0, 1, 1]], [[1, 0, 0]]


def targets(samples: Any) -> dict[str, Any]:
    return {Path(samples.name(i)).stem: samples.target(i).tolist() for i in range(len(samples))}


def keys(samples: Any) -> list[str]:
    return [Path(samples.name(i)).stem for i in range(len(samples))]


# ---- folders ----


def test_the_check_before_training_decodes_each_mask_once(
    write_set: WriteSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_set({"train/a": A, "train/b": B, "val/c": A})
    splits = read_splits(root)
    read: list[str] = []
    decode = masks.load_values

    def counted(raw: Path, *others: Any) -> Any:
        read.append(raw.stem)
        return decode(raw, *others)

    monkeypatch.setattr(masks, "load_values", counted)
    checked = check_samples(splits.train, splits.validation)
    assert sorted(read) == ["a", "b", "c"]
    found = checked.digests["training"]
    assert found[0].target == digest_of(splits.train.target(0)) != found[1].target


def test_folders_define_splits(write_set: WriteSet) -> None:
    root = write_set({"train/a": A, "train/b": B, "val/c": A, "test/d": B})
    splits = read_splits(root)
    assert targets(splits.train) == {"a": A, "b": B}
    assert targets(splits.validation) == {"c": A}
    assert splits.facts["test images, not used"] == 1
    assert splits.warnings == ()
    evaluated = read_evaluation(root, ("sky", "road"), "multi_class")
    assert targets(evaluated.samples) == {"d": B}
    assert (evaluated.split, evaluated.warnings) == ("test", ())


def test_lists_define_splits(write_set: WriteSet) -> None:
    root = write_set({n: A for n in "abcde"})
    (root / "train.txt").write_text("a\nb.png\n\nb\n")
    (root / "val.txt").write_text("c\nnowhere\n")
    splits = read_splits(root)
    assert (keys(splits.train), keys(splits.validation)) == (["a", "b"], ["c", "nowhere"])
    assert [w.split(": ")[-1] for w in splits.warnings] == ["nowhere", "d, e"]
    checked = splits.validation.problem(0, 1, 3), splits.validation.problem(1, 1, 3)
    assert checked[0] == "" and "has no mask" in checked[1]


def test_evaluation_warns_of_what_the_reader_skipped(write_set: WriteSet) -> None:
    root = write_set({n: A for n in "abcde"})
    (root / "test.txt").write_text("a\nb.png\n\nb\n")
    evaluated = read_evaluation(root, ("sky", "road"), "multi_class")
    assert (evaluated.split, keys(evaluated.samples)) == ("test", ["a", "b"])
    assert [w.split(": ")[-1] for w in evaluated.warnings] == ["c, d, e"]


def test_evaluation_warns_of_masks_that_are_all_of_one_class(write_set: WriteSet) -> None:
    root = write_set({"test/a": np.zeros_like(A), "test/b": np.zeros_like(A)})
    [line] = read_evaluation(root, ("sky", "road"), "multi_class").warnings
    assert line.startswith("the masks of all 2 evaluated images contain nothing but 'sky'")


@pytest.mark.parametrize(
    ("on_image", "on_mask", "named"), [(3, 1, True), (3, 3, False), (1, 1, False), (1, 3, False)]
)
def test_images_that_exif_turns_beside_masks_of_their_size_are_named(
    tmp_path: Path, on_image: int, on_mask: int, named: bool
) -> None:
    for i in range(4):
        for folder, orientation in (("images", on_image), ("masks", on_mask)):
            exif = Image.Exif()
            exif[0x0112] = orientation
            pixels = np.arange(48, dtype=np.uint8).reshape(6, 8) // 24
            path = tmp_path / folder / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels + 50 * i * (folder == "images")).save(path, exif=exif)
    splits = read_splits(tmp_path)
    upright = splits.train.target(0)[0, 0] == 0
    assert upright == (on_mask == 1)  # the orientation of a mask is applied, as that of an image
    assert any("4 images are rotated or mirrored by EXIF" in w for w in splits.warnings) == named
    evaluated = read_evaluation(tmp_path, ("background", "foreground"), "binary")
    assert any("rotated or mirrored by EXIF" in w for w in evaluated.warnings) == named


def test_lists_of_bare_names_find_images_in_folders(write_set: WriteSet) -> None:
    root = write_set({"train/a": A, "val/a": B, "val/b": B})
    (root / "train.txt").write_text("a\n")
    (root / "val.txt").write_text("a\nval/b\n")
    splits = read_splits(root)
    assert targets(splits.train) == {"a": A} and targets(splits.validation) == {"a": B, "b": B}


def test_without_splits_a_fraction_is_held_out_reproducibly(write_set: WriteSet) -> None:
    root = write_set({f"p{i}": A for i in range(10)})
    one, two = read_splits(root, validation=0.3), read_splits(root, validation=0.3)
    assert len(one.validation) == 3
    assert keys(one.validation) == keys(two.validation)
    assert keys(read_splits(root, validation=0.3, seed=1).validation) != keys(one.validation)
    assert set(keys(one.train)) | set(keys(one.validation)) == {f"p{i}" for i in range(10)}


def test_pascal_voc_is_read(write_set: WriteSet) -> None:
    root = write_set(
        {"a": [[0, 20, 255]], "b": [[1, 1, 0]]},
        None,
        images="JPEGImages",
        folder="SegmentationClass",
    )
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    splits = read_splits(root)
    assert isinstance(splits.train, MaskedSamples)
    assert len(splits.train.class_names) == 21 and splits.train.class_names[20] == "tvmonitor"
    assert targets(splits.train) == {"a": [[0, 20, 255]]}


def test_color_masks_are_read_by_their_color_map(write_set: WriteSet) -> None:
    table = np.array([[64, 128, 64], [0, 0, 192], [0, 0, 0]], np.uint8)
    root = write_set(
        {"train/a": [[0, 1, 2]], "val/b": [[1, 1, 0]]},
        None,
        save=lambda mask: Image.fromarray(table[mask]),
    )
    (root / "label_colors.txt").write_text("64 128 64\tAnimal\n0 0 192\tPath\n0 0 0\tVoid\n")
    splits = read_splits(root)
    assert isinstance(splits.train, MaskedSamples)
    assert splits.train.class_names == ("Animal", "Path")
    assert targets(splits.train) == {"a": [[0, 1, 255]]}
    assert "pixels of Void are ignored" in splits.warnings[0]


@pytest.mark.parametrize("ending", ["_L", "_mask"])
def test_mask_names_may_have_a_suffix(write_set: WriteSet, ending: str) -> None:
    root = write_set({"a": A, "b": B})
    for path in (root / "masks").iterdir():
        path.rename(path.with_stem(path.stem + ending))
    assert {**targets(read_splits(root).train), **targets(read_splits(root).validation)} == {
        "a": A,
        "b": B,
    }


def test_one_folder_of_masks_per_class_is_multi_label(write_set: WriteSet) -> None:
    root = write_set({"train/a": A, "val/b": B}, None)
    for name, value in (("leaf", 255), ("dirt", 1)):
        for key in ("train/a", "val/b"):
            path = root / "masks" / name / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            row = [0, 1, 0] if value == 1 else [255, 0, 0]
            Image.fromarray(np.array([row], np.uint8)).save(path)
    for folder in ("train", "val"):
        for path in (root / "masks" / folder).iterdir():
            path.unlink()
        (root / "masks" / folder).rmdir()
    splits = read_splits(root)
    assert isinstance(splits.train, MaskedSamples)
    assert (splits.train.class_names, splits.train.kind) == (("dirt", "leaf"), "multi_label")
    assert targets(splits.train) == {"a": [[[0, 1, 0]], [[1, 0, 0]]]}  # 1 and 255 alike
    other = read_evaluation(root, ("leaf", "dirt"), "multi_label").samples
    assert targets(other) == {"b": [[[1, 0, 0]], [[0, 1, 0]]]}
    mixed = root / "masks" / "leaf" / "train" / "a.png"
    Image.fromarray(np.array([[1, 255, 0]], np.uint8)).save(mixed)
    assert "both 1 and 255; set ignore=255" in splits.train.problem(0, 1, 3)
    assert read_splits(root, ignore=255).train.target(0).tolist() == [[[0, 1, 0]], [[1, 255, 0]]]
    (root / "masks" / "leaf" / "train" / "a.png").unlink()
    assert "leaf/train/a.png does not exist" in read_splits(root).train.problem(0, 1, 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 1], [0, 1, 1]),
        ([0, 255, 255], [0, 1, 1]),
        ([0, 1, 255], [0, 1, 255]),
    ],
)
def test_masks_without_class_names_are_binary(
    write_set: WriteSet, values: list[int], expected: list[int]
) -> None:
    root = write_set({"train/0": [[0, 0, 0]], "train/a": [values], "val/b": [values]}, None)
    splits = read_splits(root)
    assert isinstance(splits.train, MaskedSamples)
    assert (splits.train.class_names, splits.train.kind) == (("background", "foreground"), "binary")
    assert targets(splits.train) == {"0": [[0, 0, 0]], "a": [expected]}


def test_two_named_classes_with_values_0_and_255_are_binary(write_set: WriteSet) -> None:
    root = write_set({"train/a": [[0, 255, 255]], "val/b": [[255, 0, 0]]}, "sound\ncrack\n")
    train = read_splits(root).train
    assert isinstance(train, MaskedSamples) and train.kind == "binary"
    assert targets(train) == {"a": [[0, 1, 1]]}


# ---- ignored pixels and class names ----


def test_a_void_class_is_ignored_and_class_ids_have_no_gap(write_set: WriteSet) -> None:
    root = write_set({"train/a": [[0, 1, 2]], "val/b": [[2, 2, 255]]}, "sky\nVoid\nroad\n")
    splits = read_splits(root)
    assert isinstance(splits.train, MaskedSamples)
    assert splits.train.class_names == ("sky", "road")
    assert targets(splits.train) == {"a": [[0, 255, 1]]}
    assert targets(splits.validation) == {"b": [[1, 1, 255]]}
    kept = read_splits(root, class_names=("sky", "Void", "road"))
    assert targets(kept.train) == {"a": [[0, 1, 2]]} and kept.warnings == ()


@pytest.mark.parametrize("ignore", ["road", 2])
def test_a_class_is_ignored_by_name_or_by_value(write_set: WriteSet, ignore: str | int) -> None:
    root = write_set({"train/a": [[0, 1, 2]], "val/b": [[2, 2, 255]]}, "sky\ntree\nroad\n")
    splits = read_splits(root, ignore=ignore)
    assert isinstance(splits.train, MaskedSamples) and splits.train.class_names == ("sky", "tree")
    assert targets(splits.train) == {"a": [[0, 1, 255]]}
    again = read_evaluation(root, ("sky", "tree"), "multi_class", ignore).samples
    assert targets(again) == {"b": [[255, 255, 255]]}


def test_a_value_without_a_class_can_be_ignored(write_set: WriteSet) -> None:
    root = write_set({"train/a": [[0, 1, 9]], "val/b": A})
    assert targets(read_splits(root, ignore=9).train) == {"a": [[0, 1, 255]]}
    assert "not classes: 9" in read_splits(root).train.problem(0, 1, 3)


def test_ignoring_an_unknown_class_raises(write_set: WriteSet) -> None:
    root = write_set({"train/a": A, "val/b": A})
    with pytest.raises(OptionError, match="ignore='raod' is not a class; did you mean 'road'"):
        read_splits(root, ignore="raod")


@given(st.permutations(["sky", "road", "void", "car", "tree"]), st.permutations([0, 1, 2, 3]))
def test_classes_keep_their_pixels_in_any_order_of_names(
    names: list[str], order: list[int]
) -> None:
    """Read one pixel per class, for any order of values and class names."""
    kept = [n for n in names if n != "void"]
    class_names = tuple(kept[i] for i in order)

    class Set(list[Any]):
        classes = names

    mask = np.arange(5, dtype=np.uint8)[None]
    data = Set([(IMAGE, mask)] * 2)
    splits = read_splits(data)
    assert isinstance(splits.train, MaskedSamples)
    for own, read in (
        (splits.train.class_names, splits.train),
        (class_names, read_evaluation(data, class_names, "multi_class").samples),
    ):
        found = ["void" if i == 255 else own[i] for i in read.target(0)[0]]
        assert found == names


def test_evaluation_raises_on_an_unknown_class(write_set: WriteSet) -> None:
    root = write_set({"test/a": A}, "sky\nroads\n")
    with pytest.raises(DataError, match=r"label 'roads' is not in the label map.*'road'"):
        read_evaluation(root, ("sky", "road"), "multi_class")


# ---- datasets, pairs, plugin readers ----


def test_map_style_datasets_are_read_lazily() -> None:
    class Lazy:
        got = 0

        def __len__(self) -> int:
            return 50

        def __getitem__(self, index: int) -> Any:
            Lazy.got += 1
            return IMAGE, Image.fromarray(np.full((2, 3), index % 3, np.uint8))

    splits = read_splits(Lazy(), class_names=("a", "b", "c"))
    assert Lazy.got == 1  # to find out whether masks have layers
    assert len(splits.train) == 40 and splits.train.target(1).max() < 3


def test_without_class_names_the_values_are_the_names() -> None:
    data = [(IMAGE, np.full((2, 3), v, np.uint8)) for v in (0, 2, 255, 1)]
    train = read_splits(data, validation=0.25).train
    assert isinstance(train, MaskedSamples)
    assert (train.class_names, train.kind) == (("0", "1", "2"), "multi_class")
    assert targets(read_evaluation(data[:1], ("0", "1", "2"), "multi_class").samples) == {
        "item 0": [[0] * 3] * 2
    }


def test_masks_with_layers_are_multi_label() -> None:
    mask = np.zeros((2, 2, 3), bool)
    mask[1, 0] = True
    train = read_splits([(IMAGE, mask)] * 4).train
    assert isinstance(train, MaskedSamples)
    assert (train.class_names, train.kind) == (("0", "1"), "multi_label")
    assert train.target(0).tolist() == mask.astype(int).tolist()
    assert train.counts().tolist() == [0, 9]


def test_a_pair_is_training_and_validation_with_the_same_class_names(
    write_set: WriteSet,
) -> None:
    first = write_set({"a": A, "b": B}, root="first")
    second = write_set({"c": A}, "road\nsky\n", root="second")
    splits = read_splits((first, second))
    assert targets(splits.train) == {"a": A, "b": B}
    assert targets(splits.validation) == {"c": [[1, 0, 0]]}  # its value 0 is the road
    assert targets(read_evaluation((first, second), ("sky", "road"), "multi_class").samples) == {
        "c": [[1, 0, 0]]
    }


def test_a_plugin_reader_of_masks_is_used(write_set: WriteSet) -> None:
    root = write_set({"a": A, "b": B}, None)

    class Table(DataReader):
        name = "table"
        targets = "masks"

        def claims(self, data: Any) -> bool:
            return str(data).endswith(".csv")

        def read(self, data: Any) -> DataSplits:
            with open(data, newline="") as file:
                rows = [[Path(cell) for cell in row] for row in csv.reader(file)]
            return DataSplits({"train": FileSamples(*zip(*rows, strict=True))}, ("sky", "road"))

    class Plugin:
        @hookimpl
        def register_readers(self) -> list[DataReader]:
            return [Table()]

    with open(root / "t.csv", "w") as file:
        csv.writer(file).writerows(
            [root / "images" / f"{n}.png", root / "masks" / f"{n}.png"] for n in "ab"
        )
    manager = PluginManager()
    manager.register(Plugin(), name="table")
    with using(manager):
        splits = read_splits(root / "t.csv")
    assert {**targets(splits.train), **targets(splits.validation)} == {"a": A, "b": B}


# ---- errors ----


def test_problems_name_mask_image_and_values(write_set: WriteSet) -> None:
    root = write_set({f"train/{n}": [[0, 1, 0]] for n in "abcd"} | {"val/e": A})
    (root / "masks" / "train" / "a.png").unlink()
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(root / "masks" / "train" / "b.png")
    Image.fromarray(np.array([[0, 7, 9]], np.uint8)).save(root / "masks" / "train" / "c.png")
    (root / "masks" / "train" / "d.png").write_bytes(b"noise")
    (root / "masks" / "val" / "stray.png").write_bytes(b"noise")
    splits = read_splits(root)
    found = [splits.train.problem(i, 1, 3) for i in range(4)]
    for n, (line, words) in enumerate(
        zip(
            found,
            ["has no mask", "has 4x5 pixels, but its image has 1x3", "7, 9", "is damaged"],
            strict=True,
        )
    ):
        name = "abcd"[n]
        assert f"masks/train/{name}.png" in line and f"images/train/{name}.png" in line
        assert words in line and "\n" not in line
    assert splits.validation.problem(0, 1, 3) == ""
    assert "1 masks in" in splits.warnings[0] and "val/stray" in splits.warnings[0]
    with pytest.raises(DataError, match=r"4 of 5 images .*has no mask"):
        check_samples(splits.train, splits.validation)


def test_one_bad_mask_in_a_hundred_is_dropped_with_a_warning(write_set: WriteSet) -> None:
    root = write_set({f"train/{i:03d}": A for i in range(110)} | {"val/v": A})
    (root / "masks" / "train" / "050.png").unlink()
    splits = read_splits(root)
    checked = check_samples(splits.train, splits.validation)
    assert len(checked.train) == 109
    assert any("050.png" in line for line in checked.report.warnings)


@pytest.mark.parametrize(
    ("masks", "classes", "message"),
    [
        ({"train/a": A}, "sky\n", "too few classes to learn: sky"),
        ({"val/a": A}, "sky\nroad\n", "no training images, only validation"),
        ({"a": A}, "sky\nroad\n", "a single image cannot be split"),
        ({"a": [[0, 4, 9]], "b": A}, None, r"are unknown; add classes.txt.*contain 0, 1, 4, 9"),
    ],
    ids=str,
)
def test_a_dataset_that_cannot_be_trained_on_raises(
    write_set: WriteSet, masks: Any, classes: str | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_splits(write_set(masks, classes))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", "nowhere does not exist; pass a folder with images/ and masks/"),
        (7, "data must be a path or a dataset with __len__ and __getitem__, not int"),
        ([], "is empty"),
        ([(IMAGE,)], "item 0: a dataset must return"),
        (("a", "b", "c"), "one dataset or a pair"),
        ([(IMAGE, "sky")] * 2, "item 0: has no mask; sky does not exist"),
    ],
    ids=["path", "number", "list", "item", "triple", "mask"],
)
def test_data_of_an_unknown_format_raise(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_splits(data).train.target(0)


def test_a_kind_that_does_not_match_the_data_raises(write_set: WriteSet) -> None:
    root = write_set({"train/a": A, "val/b": A}, "sky\nroad\ncar\n")
    with pytest.raises(DataError, match="does not match kind='multi_label'"):
        read_splits(root, kind="multi_label")
    with pytest.raises(DataError, match="binary masks have two classes"):
        read_splits(root, kind="binary")


# ---- gray masks beside a color map, assumed names, masks of one class ----

TWO_GRAYS = "255 255 255 thing\n0 0 0 background\n"
THING = [[255, 255, 0]]


def test_gray_masks_beside_a_color_map_contain_its_colors(write_set: WriteSet) -> None:
    root = write_set({"a": THING, "b": THING, "c": [[0, 0, 0]]}, classes=None)
    (root / "label_colors.txt").write_text(TWO_GRAYS)
    splits = read_splits(root, seed=1)
    assert splits.train.class_names == ("thing", "background")
    assert {**targets(splits.train), **targets(splits.validation)} == {
        "a": [[0, 0, 1]],
        "b": [[0, 0, 1]],
        "c": [[1, 1, 1]],
    }
    assert not splits.warnings


def test_black_and_white_masks_of_one_bit_contain_the_colors_of_the_map(
    write_set: WriteSet,
) -> None:
    save = lambda mask: Image.fromarray(mask).convert("1")
    root = write_set({"a": THING, "b": THING}, classes=None, save=save)
    (root / "label_colors.txt").write_text(TWO_GRAYS)
    assert targets(read_splits(root).train).popitem()[1] == [[0, 0, 1]]


def test_gray_masks_of_indices_beside_a_color_map_are_told(write_set: WriteSet) -> None:
    root = write_set({"a": A, "b": B}, classes=None)
    (root / "label_colors.txt").write_text("0 0 0 sky\n128 0 0 road\n")
    splits = read_splits(root)
    assert {**targets(splits.train), **targets(splits.validation)} == {"a": A, "b": B}
    assert any("are read as indices of its lines" in line for line in splits.warnings)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:0,0,0::\nroad:48,112,32::\n"),
        ("class_names.txt", "sky\nroad\n"),
    ],
)
def test_class_files_of_annotation_tools_come_before_the_names_of_voc(
    write_set: WriteSet, name: str, text: str
) -> None:
    def save(mask: Any) -> Image.Image:
        image = Image.fromarray(mask).convert("P")
        image.putdata(mask.ravel().tolist())
        image.putpalette([0, 0, 0, 48, 112, 32])
        return image

    folders = {"images": "JPEGImages", "folder": "SegmentationClass"}
    root = write_set({"a": A, "b": B}, classes=None, save=save, **folders)
    (root / name).write_text(text)
    splits = read_splits(root)
    assert splits.train.class_names == ("sky", "road") and not splits.warnings
    assert {**targets(splits.train), **targets(splits.validation)} == {"a": A, "b": B}


def test_the_names_of_voc_are_assumed_with_a_warning(write_set: WriteSet) -> None:
    folders = {"images": "JPEGImages", "folder": "SegmentationClass"}
    own = write_set({"a": A, "b": B}, classes=None, **folders)
    (line,) = read_splits(own).warnings
    assert "VOC's own 21 classes are assumed" in line and "add classes.txt" in line
    voc = write_set({"2007_000032": A, "2007_000039": B}, None, root="voc", **folders)
    assert not read_splits(voc).warnings


@pytest.mark.parametrize(
    ("mask", "only"), [([[0, 0]], "nothing but 'sky'"), ([[1, 255]], "nothing but 'road'")]
)
def test_masks_of_one_class_are_refused(write_set: WriteSet, mask: Any, only: str) -> None:
    root = write_set({"a": mask, "b": mask, "c": mask})
    with pytest.raises(DataError, match=f"masks of all 2 training images contain {only}"):
        read_splits(root)


def test_an_error_carries_what_was_noticed_before(write_set: WriteSet) -> None:
    root = write_set({"a": [[0, 0]], "b": [[0, 0]], "c": A})
    (root / "images" / "c.png").unlink()
    with pytest.raises(DataError, match=r"noticed before: 1 masks in .* belong to no image: c"):
        read_splits(root)


def test_a_mask_is_named_once_in_an_error(write_set: WriteSet) -> None:
    gray = {name: np.full((2, 2, 3), 1) for name in "abcd"}
    gray["a"][0], gray["b"] = 2, np.full((2, 2, 3), 7)
    root = write_set(gray, classes=None)
    (root / "label_colors.txt").write_text("1 1 1 sky\n2 2 2 road\n")
    checked = read_evaluation(root, ("sky", "road"), "multi_class").samples
    assert [bool(checked.problem(i, 2, 2)) for i in range(4)] == [False, True, False, False]
    problem = checked.problem(1, 2, 2)
    assert problem.count("b.png (mask of ") == 1 and "colors that are not classes" in problem


def test_masks_of_one_class_beside_missing_ones_are_left_to_the_data_check(
    write_set: WriteSet,
) -> None:
    root = write_set({name: [[0, 0]] for name in "abcd"}, "sky\nroad\ncar\n")
    for name in "abc":
        (root / "masks" / f"{name}.png").unlink()
    train = read_splits(root).train
    assert any("has no mask" in train.problem(i, 1, 2) for i in range(len(train)))

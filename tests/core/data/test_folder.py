"""Folders of images become splits, files and class names; skipped files are reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.decode import IMAGE_SUFFIXES
from visiongraft.data.folder import read_folder
from visiongraft.data.listing import list_images
from visiongraft.errors import DataError

Touch = Callable[..., Path]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """Make empty files below a folder, since reading decodes nothing; return the folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "set"

    return make


def found(root: Path) -> dict[str, list[tuple[str, str]]]:
    return {
        part: [
            (str(path.relative_to(root)), label)
            for path, (label,) in zip(files.paths, files.targets, strict=True)
        ]
        for part, files in read_folder(root).splits.items()
    }


def test_one_folder_per_class_is_all_training_sorted_by_path(touch):
    root = touch("rose/b.jpg", "rose/a.PNG", "daisy/c.jpeg")
    assert found(root) == {
        "train": [("daisy/c.jpeg", "daisy"), ("rose/a.PNG", "rose"), ("rose/b.jpg", "rose")]
    }
    assert read_folder(root).names == ("daisy", "rose") and not read_folder(root).warnings


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("validation", ["val", "valid", "validation", "VAL"])
@pytest.mark.parametrize("test", ["test", "testing"])
def test_parts_are_found_by_their_usual_names(touch, train, validation, test):
    root = touch(f"{train}/a/1.jpg", f"{validation}/a/2.jpg", f"{test}/b/3.jpg")
    assert found(root) == {
        "train": [(f"{train}/a/1.jpg", "a")],
        "validation": [(f"{validation}/a/2.jpg", "a")],
        "test": [(f"{test}/b/3.jpg", "b")],
    }
    assert read_folder(root).names == ("a", "b") and read_folder(root).warnings == ()


def test_splits_may_be_in_the_only_folder_but_a_single_class_is_a_class(touch, tmp_path):
    root = touch("train/a/1.jpg", "val/b/2.jpg", ".DS_Store")
    assert root.parent == tmp_path
    assert found(tmp_path) == {
        "train": [("set/train/a/1.jpg", "a")],
        "validation": [("set/val/b/2.jpg", "b")],
    }
    (tmp_path / "note.jpg").touch()
    assert read_folder(tmp_path).names == ("set",)


def test_a_single_split_may_be_the_whole_dataset(touch):
    assert found(touch("val/a/1.jpg", "val/b/2.jpg")) == {
        "validation": [("val/a/1.jpg", "a"), ("val/b/2.jpg", "b")]
    }


def test_a_single_split_beside_folders_without_images_is_still_a_split(touch):
    read = read_folder(touch("train/a/1.jpg", "notes/b.txt"))
    assert list(read.splits) == ["train"] and read.names == ("a",)
    assert "skipped: notes" in read.warnings[0]


def test_a_split_without_class_folders_is_skipped(touch):
    read = read_folder(touch("train/a/1.jpg", "val/2.jpg", "test/a/3.jpg"))
    assert list(read.splits) == ["train", "test"]
    assert "skipped: val" in read.warnings[0]


def test_folders_below_a_class_folder_belong_to_the_class(touch):
    assert found(touch("cat/2020/may/1.jpg", "dog/1.jpg"))["train"][0] == (
        "cat/2020/may/1.jpg",
        "cat",
    )


def test_a_class_may_be_named_like_a_split(touch):
    root = touch("train/1.jpg", "plane/1.jpg")
    assert read_folder(root).names == ("plane", "train")


def test_a_dataset_with_a_split_beside_classes_is_not_split(touch):
    root = touch("train/steam/1.jpg", "plane/1.jpg", "ship/1.jpg")
    assert read_folder(root).names == ("plane", "ship", "train")


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_each_known_suffix_is_read_in_any_case(touch, suffix):
    root = touch(f"a/1{suffix}", f"a/2{suffix.upper()}", f"a/3{suffix}.txt", "a/4")
    assert [path.name for path in list_images(root)] == [f"1{suffix}", f"2{suffix.upper()}"]


def test_hidden_files_and_folders_are_skipped(touch):
    root = touch("a/1.jpg", "a/._1.jpg", ".cache/2.jpg", "b/1.jpg", "b/.thumbs/3.jpg")
    assert len(read_folder(root).splits["train"]) == 2
    assert read_folder(root).warnings == ()


def test_a_class_without_images_keeps_its_name_and_is_reported(touch):
    root = touch("a/1.jpg", "b/2.jpg")
    (root / "empty").mkdir()
    read = read_folder(root)
    assert read.names == ("a", "b", "empty")
    assert read.warnings == (f"class 'empty' has no images in {root}",)


def test_skipped_files_are_counted_and_named(touch):
    root = touch("a/1.jpg", "a/x.txt", "b/2.jpg", "b/y.mp4", "loose.jpg")
    no_images, no_label = read_folder(root).warnings
    assert no_images.startswith("2 files") and "x.txt, y.mp4" in no_images
    assert (
        no_label.startswith("1 files") and "have no label" in no_label and "loose.jpg" in no_label
    )


def test_folders_beside_the_splits_are_reported(touch):
    root = touch("train/a/1.jpg", "val/a/2.jpg", "extra/a/3.jpg")
    (warning,) = read_folder(root).warnings
    assert "divided into splits (train, val); skipped: extra" in warning


def test_links_are_followed_and_circles_end(touch):
    root = touch("a/1.jpg", "b/2.jpg")
    (root / "a" / "again").symlink_to(root / "a", target_is_directory=True)
    assert [path.name for path in list_images(root / "a")] == ["1.jpg"]
    (root / "c").symlink_to(root / "b", target_is_directory=True)
    assert read_folder(root).names == ("a", "b", "c")
    (root / "a" / "more").symlink_to(root / "b", target_is_directory=True)
    assert [path.name for path in list_images(root / "a")] == ["1.jpg", "2.jpg"]


def test_images_are_listed_by_path_without_hidden_ones(touch):
    root = touch("a/b/c.png", "a/0.jpg", "0.jpg", ".d/e.jpg", ".f.jpg", "g.txt")
    listed = [str(path.relative_to(root)) for path in list_images(root)]
    assert listed == ["0.jpg", "a/0.jpg", "a/b/c.png"]


def test_the_order_does_not_depend_on_when_files_were_made(touch):
    names = [f"a/{i * 7 % 20:02d}/{j}.jpg" for i in range(20) for j in (2, 0, 1)]
    root = touch(*names)
    assert [name for name, _ in found(root)["train"]] == sorted(names)


def test_a_folder_called_like_an_image_is_a_folder(touch):
    root = touch("a/1.jpg/2.jpg", "b/3.jpg")
    assert found(root)["train"] == [("a/1.jpg/2.jpg", "a"), ("b/3.jpg", "b")]


def test_a_name_with_a_line_break_stays_on_one_line(touch):
    read = read_folder(touch("a\nb/1.jpg", "c/1.jpg"))
    assert read.names == ("a\\nb", "c")


def test_messages_stay_on_one_line_whatever_a_disk_holds(touch):
    root = touch("train/a/1.jpg", "train/b\n/x", "train/a/z\n", "train/\n", "other\n/y.txt")
    warnings = read_folder(root).warnings
    assert len(warnings) == 4 and not any("\n" in line for line in warnings)
    touch("loose\n/1.jpg", "no images\n/a/\n")
    (root / "empty\n").mkdir()
    for name in ("loose\n", "no images\n", "empty\n", "missing\n", "train/\n"):
        with pytest.raises(DataError) as caught:
            read_folder(root / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1.jpg", "2.jpg"], "contains 2 images but no folder per class; sort them into"),
        (
            ["a/1.mp4", "a/2.mov"],
            r"contains no images, only .mov, .mp4; the supported suffixes are .bmp",
        ),
        (["a/1.MP4", "a/2.mp4"], r"contains no images, only .mp4; the supported suffixes are .bmp"),
        (["a/README"], "contains no images, only README; the supported suffixes are .bmp"),
        (
            ["train/a/x.txt", "val/a/y.txt"],
            "contains no images, only .txt; the supported suffixes are .bmp",
        ),
        ([], "contains no images; pass a folder like set/CLASS/image.jpg"),
    ],
)
def test_a_folder_without_labeled_images_is_refused_with_advice(touch, names, words):
    root = touch(*names)
    root.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=words):
        read_folder(root)


def test_a_path_that_is_not_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_folder(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is not a folder"):
        read_folder(tmp_path / "file")


def test_a_folder_that_cannot_be_read_is_named(touch, monkeypatch):
    root = touch("a/1.jpg")
    with pytest.raises(DataError, match=f"^{root}/missing: cannot be read: No such file"):
        list_images(root / "missing")

    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)  # a superuser may read any folder
    with pytest.raises(DataError, match=f"^{root}: cannot be read: Permission denied$"):
        read_folder(root)


FILES = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(["", "x/"]),
    st.sampled_from("123"),
    st.sampled_from([".jpg", ".txt", ""]),
)


@given(st.sets(FILES, min_size=1))
def test_every_file_is_a_labeled_image_or_counted_as_skipped(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("set")
    for label, below, name, suffix in files:
        (root / label / below).mkdir(parents=True, exist_ok=True)
        (root / label / below / (name + suffix)).touch()
    images = [(f"{a}/{b}{c}{d}", a) for a, b, c, d in files if d == ".jpg"]
    if not images:
        with pytest.raises(DataError, match="contains no images, only "):
            read_folder(root)
        return
    assert sorted(found(root)["train"]) == sorted(images)
    read = read_folder(root)
    assert read.names == tuple(sorted({label for label, *_ in files}))
    counted = [line for line in read.warnings if "do not have an image suffix" in line]
    others = len(files) - len(images)
    assert [int(line.split()[0]) for line in counted] == ([others] if others else [])


def test_folders_that_systems_leave_behind_are_not_classes(tmp_path):
    for name in ("cat/a.jpg", "dog/b.jpg", "__MACOSX/cat/a.jpg", "cat/@eaDir/a.jpg", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    read = read_folder(tmp_path)
    assert read.names == ("cat", "dog") and len(read.splits["train"]) == 2 and read.warnings == ()


# ---- names that are not classes ----


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "valid", "test"),
        ("train", "val"),
        ("images", "masks"),
        ("images", "labels"),
        ("Images", "Train"),
        ("Train_set", "Test_set"),
        ("train2017", "val2017"),
        ("fold1", "fold_2"),
        ("JPEGImages", "SegmentationClass"),
        ("img", "gt"),
    ],
)
def test_folders_named_like_splits_or_masks_alone_are_no_classes(touch, folders):
    root = touch(*(f"{folder}/{i}.jpg" for folder in folders for i in range(2)))
    with pytest.raises(DataError, match="are not named like classes; sort") as caught:
        read_folder(root)
    assert all(folder in str(caught.value) for folder in folders)


def test_a_class_may_be_named_like_a_split_among_others(touch):
    root = touch("train/1.jpg", "bus/2.jpg", "mask/3.jpg", "no_mask/4.jpg")
    read = read_folder(root)
    assert read.names == ("bus", "mask", "no_mask", "train")
    assert (
        len(read.warnings) == 1
        and "the folders mask, train are read as classes" in read.warnings[0]
    )


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train_set", "Test_set"),
        ("training_set/training_set", "test_set/test_set"),
        ("train2017", "val2017"),
        ("train-images", "test images"),
    ],
)
def test_folders_of_splits_may_have_longer_names(touch, train, test):
    names = [f"{split}/{name}/{i}.jpg" for split in (train, test) for name in "ab" for i in "12"]
    read = read_folder(touch(*names))
    other = "validation" if "val" in test else "test"
    assert read.names == ("a", "b") and read.warnings == ()
    assert {split: len(files) for split, files in read.splits.items()} == {"train": 4, other: 4}


def test_numbered_folders_of_one_split_are_no_splits(touch):
    read = read_folder(touch("train1/a/1.jpg", "train2/a/2.jpg", "bus/3.jpg"))
    assert read.names == ("bus", "train1", "train2")
    assert "the folders train1, train2 are read as classes" in read.warnings[0]


def test_folders_of_classes_in_folders_read_as_classes_are_named(touch):
    (line,) = read_folder(
        touch("left/ok/1.jpg", "left/bad/2.jpg", "right/ok/3.jpg", "right/bad/4.jpg")
    ).warnings
    assert (
        "contain no images but folders of the same names, bad, ok; if these are the classes" in line
    )
    one = read_folder(touch("left/ok/1.jpg", "left/bad/2.jpg", "right/5.jpg"))
    assert one.names == ("left", "right")


def test_a_split_with_classes_beside_a_class_is_named(touch):
    read = read_folder(touch("train/a/1.jpg", "train/b/2.jpg", "bus/3.jpg"))
    assert read.names == ("bus", "train")
    assert "the folders train are read as classes; move them" in read.warnings[0]


def test_images_beside_their_annotations_are_no_class(touch):
    with pytest.raises(DataError, match="the folders images contain images"):
        read_folder(touch("images/1.jpg", "labels/1.txt"))


@pytest.mark.parametrize(
    "files",
    [
        ("config.json", "metrics.jsonl", "curves.png", "checkpoints/best-0.safetensors"),
        ("run.log",),
        ("config.json", "model.safetensors", "README.md"),
    ],
    ids=["a run", "a run that begins", "a saved model"],
)
@pytest.mark.parametrize("folder", ["run1", "runs/first"])
def test_the_folder_of_a_run_is_no_class(touch, folder, files):
    root = touch("green/0.jpg", "red/1.jpg", *(f"{folder}/{name}" for name in files))
    read = read_folder(root)
    assert read.names == ("green", "red") and len(read.splits["train"]) == 2
    top = folder.split("/")[0]
    assert len(read.warnings) == 1
    assert f"contains the folders of runs, which are skipped: {top}" in read.warnings[0]


def test_a_class_whose_images_lie_beside_a_log_stays_a_class(touch):
    root = touch("green/0.jpg", "green/run.log", "green/config.json", "red/run.log", "red/a/1.jpg")
    assert read_folder(root).names == ("green", "red")
    assert len(read_folder(root).splits["train"]) == 2


@pytest.mark.parametrize(
    "name", ["lost+found", "$RECYCLE.BIN", "__MACOSX", "System Volume Information", "@eaDir"]
)
def test_what_systems_leave_behind_is_no_class(touch, name):
    read = read_folder(touch("green/0.jpg", "red/1.jpg", f"{name}/2.jpg"))
    assert read.names == ("green", "red") and not read.warnings


def test_folders_that_differ_in_unicode_form_only_are_one_class(touch):
    root = touch("gr\u00fcn/0.jpg", "gru\u0308n/1.jpg", "rot/2.jpg")
    read = read_folder(root)
    assert read.names == ("gr\u00fcn", "rot")
    assert sorted(read.splits["train"].targets) == [("gr\u00fcn",), ("gr\u00fcn",), ("rot",)]
    assert len(read.warnings) == 1 and "contains 2 folders of class 'grün'" in read.warnings[0]

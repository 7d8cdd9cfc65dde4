"""Tables and lists next to images that are not in class folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from visiongraft.data.folder import LabeledSplits
from visiongraft.data.label_files import read_indexed, read_list
from visiongraft.errors import DataError

Lay = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """Write text files; images are empty, since reading opens none."""

    def write(files: Mapping[str, str]) -> Path:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content.encode())
        return tmp_path

    return write


def seen(root: Path, read: LabeledSplits | None) -> dict[str, dict[str, str]]:
    assert read is not None
    return {
        part: {
            path.relative_to(root).as_posix(): label
            for path, (label,) in zip(files.paths, files.targets, strict=True)
        }
        for part, files in read.splits.items()
    }


IMAGES = {"images/a.jpg": "", "images/b c.JPG": ""}
LABELS = {"images/a.jpg": "cat", "images/b c.JPG": "dog"}


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_a_folder_of_images_is_read_with_the_table_beside_it(lay: Lay, prefix: str) -> None:
    table = f"filename,label\r\n{prefix}a.jpg,cat\r\n{prefix}b c.JPG,dog\r\n"
    root = lay({**IMAGES, "labels.csv": table, ".DS_Store": "", "__MACOSX/x.jpg": ""})
    assert seen(root, read_indexed(root)) == {"train": LABELS}


def test_a_table_may_be_in_the_folder_of_its_images(lay: Lay) -> None:
    root = lay({"a.jpg": "", "b.jpg": "", "labels.csv": "image,class\na.jpg,cat\nb.jpg,dog\n"})
    assert seen(root, read_indexed(root)) == {"train": {"a.jpg": "cat", "b.jpg": "dog"}}


def test_each_split_may_have_a_table_and_a_folder(lay: Lay) -> None:
    rows = "image,label\na.jpg,{}\n"
    images = {f"{part}/a.jpg": "" for part in ("train", "valid", "test")}
    tables = {"train.csv": rows.format("cat"), "valid.csv": rows.format("dog")}
    root = lay({**images, **tables, "test.csv": "image\na.jpg\n"})
    read = read_indexed(root)
    assert seen(root, read) == {
        "train": {"train/a.jpg": "cat"},
        "validation": {"valid/a.jpg": "dog"},
    }
    assert read is not None and read.names == ("cat", "dog")
    assert "the test split is skipped" in read.warnings[0]


@pytest.mark.parametrize("space", [" ", "\t"])
def test_a_list_may_contain_the_index_of_a_class_in_classes_txt(lay: Lay, space: str) -> None:
    lists = {
        "train.txt": f"\ufeffimages/a.jpg{space}1\r\n",
        "val.txt": f"b c.JPG{space}0\n",
        "classes.txt": "dog\ncat\n",
    }
    root = lay({**IMAGES, **lists})
    read = read_indexed(root)
    assert seen(root, read) == {
        "train": {"images/a.jpg": "cat"},
        "validation": {"images/b c.JPG": "dog"},
    }
    assert read is not None and read.names == ("dog", "cat")
    assert seen(root, read_list(root / "train.txt")) == {"train": {"images/a.jpg": "cat"}}


def test_without_classes_txt_labels_are_taken_from_the_list(lay: Lay) -> None:
    root = lay({**IMAGES, "all.txt": "images/a.jpg cat\nimages/b c.JPG 7\n"})
    read = read_list(root / "all.txt")
    assert [*seen(root, read)["train"].values()] == ["cat", "7"] and read.names == ("7", "cat")


def test_class_folders_take_precedence_over_tables(lay: Lay) -> None:
    table = {"labels.csv": "path,label\ncat/a.jpg,dog\n", "train.txt": "cat/a.jpg dog"}
    assert read_indexed(lay({"cat/a.jpg": "", "dog/b.jpg": "", **table})) is None


def test_splits_with_class_folders_take_precedence_over_tables(lay: Lay) -> None:
    files = {"train/cat/a.jpg": "", "val/cat/b.jpg": "", "train.txt": "train/cat/a.jpg 0"}
    assert read_indexed(lay(files)) is None


def test_without_tables_nothing_is_found(lay: Lay) -> None:
    assert read_indexed(lay({**IMAGES, "README.txt": "words"})) is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.csv": "", "b.csv": ""}, "contains the tables a.csv, b.csv; pass one of them"),
        ({"train.csv": "", "train.tsv": ""}, "are both the train split"),
        ({"train.csv": "path,label,split\nimages/a.jpg,b,val"}, "has splits of its own"),
        ({"train.txt": "images/a.jpg 2", "classes.txt": "b\nc"}, "entry 1: label '2' is none of"),
        (
            {"train.txt": "images/a.jpg"},
            "entry 1: 'images/a.jpg' is not an image path followed by a label",
        ),
        ({"train.txt": "images/a.jpg 1\nimages/a.jpg 2"}, "is listed twice, with different labels"),
        ({"train.txt": ""}, "lists no images"),
        ({"train.txt": "missing.jpg 1"}, "none of its 1 images exists"),
    ],
    ids=str,
)
def test_ambiguous_or_malformed_tables_and_lists_are_refused(
    lay: Lay, files: dict[str, str], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_indexed(lay({**IMAGES, **files}))
    assert "\n" not in str(caught.value)


ONE_COLUMN_PER_CLASS = "filename, Green, red\na.jpg, 1, 0\nb.jpg, 0, 1\nc.jpg, 1, 1\nd.jpg,0,0\n"


def test_a_table_with_a_column_per_class_in_each_split_is_read(lay: Lay) -> None:
    images = {f"{split}/{name}.jpg": "" for split in ("train", "valid", "test") for name in "abcd"}
    tables = {f"{split}/_classes.csv": ONE_COLUMN_PER_CLASS for split in ("train", "valid", "test")}
    root = lay({**images, **tables})
    read = read_indexed(root)
    assert read is not None and read.names == ("Green", "red")
    assert {split: list(files.targets) for split, files in read.splits.items()} == {
        split: [("Green",), ("red",), ("Green", "red"), ()]
        for split in ("train", "validation", "test")
    }
    assert read.splits["validation"].paths[0] == root / "valid" / "a.jpg"


def test_a_column_of_a_class_with_another_value_is_refused(lay: Lay) -> None:
    root = lay({"train/a.jpg": "", "train/_classes.csv": "filename,green,red\na.jpg,0.5,0\n"})
    with pytest.raises(DataError, match=r"row 2: the column 'green' contains '0.5'"):
        read_indexed(root)


def test_an_image_that_a_list_contains_twice_counts_once_and_is_named(lay: Lay) -> None:
    root = lay(
        {**IMAGES, "list.txt": "images/a.jpg cat\nimages\\\\a.jpg cat\n".replace("\\\\", "\\")}
    )
    read = read_list(root / "list.txt")
    assert len(read.splits["train"]) == 1
    assert "lists 1 images more than once; each counts once" in read.warnings[0]


def test_a_list_without_the_name_of_a_split_is_skipped_with_a_warning(lay: Lay) -> None:
    lists = {"train.txt": "a.jpg cat\n", "vall.txt": "b.jpg cat\n", "README.txt": "about"}
    read = read_indexed(lay({"a.jpg": "", "b.jpg": "", "classes.txt": "cat\ndog\n", **lists}))
    assert read is not None
    assert read.warnings[-1].endswith("without the name of a split are skipped: vall.txt")


def test_a_class_that_classes_txt_names_twice_is_refused_with_the_file(lay: Lay) -> None:
    root = lay({"a.jpg": "", "classes.txt": "cat\ncat\n", "train.txt": "a.jpg cat\n"})
    with pytest.raises(DataError, match=r"classes\.txt: class names \['cat'\] appear more than"):
        read_indexed(root)

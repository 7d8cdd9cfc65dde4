"""Tables of pictures are read as people write them, or refused with the row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.manifest import read_manifest
from visiongraft.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a table beside the pictures 0.jpg to 9.jpg, which reading does not decode."""

    def table(*lines: str, name: str = "table.csv", encoding: str = "utf-8") -> Path:
        for i in range(10):
            (tmp_path / f"{i}.jpg").touch()
        path = tmp_path / name
        path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
        return path

    return table


def found(path: Path) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    return {
        part: [(p.name, labels) for p, labels in zip(files.paths, files.labels, strict=True)]
        for part, files in read_manifest(path).parts.items()
    }


def test_rows_become_parts_in_the_tables_order(write):
    path = write("path,label,split", "2.jpg,b,val", "1.jpg,a,train", "0.jpg,b,", "3.jpg,a,test")
    assert found(path) == {
        "train": [("1.jpg", ("a",)), ("0.jpg", ("b",))],
        "validation": [("2.jpg", ("b",))],
        "test": [("3.jpg", ("a",))],
    }
    assert read_manifest(path).names == ("a", "b") and not read_manifest(path).warnings


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        (["path\tlabel", "0.jpg\ta"], {"name": "t.tsv"}),
        (["path;label", "0.jpg;a"], {}),
        (["path,label", "0.jpg,a"], {"encoding": "utf-8-sig"}),
        (["", " Path , LABEL ", "", "0.jpg, a "], {}),
        (["path,label", '"0.jpg","a"'], {}),
        (["path,label,note", "0.jpg,a"], {}),
    ],
    ids=["tabs", "semicolons", "byte order mark", "spaces and case", "quotes", "short row"],
)
def test_tables_are_read_as_programs_write_them(write, lines, options):
    assert found(write(*lines, **options)) == {"train": [("0.jpg", ("a",))]}


def test_several_labels_are_separated_and_may_be_none(write):
    path = write("path,labels", "0.jpg,a|b", "1.jpg,b; a;b", "2.jpg,")
    assert [labels for _, labels in found(path)["train"]] == [("a", "b"), ("b", "a"), ()]
    (warning,) = read_manifest(path).warnings
    assert "1 pictures without any label" in warning and "2.jpg" in warning


def test_a_column_label_holds_one_name_whatever_is_in_it(write):
    assert found(write("path,label", "0.jpg,a|b"))["train"] == [("0.jpg", ("a|b",))]


def test_absolute_paths_stay_and_relative_ones_start_at_the_table(write, tmp_path, monkeypatch):
    path = write("path,label", f"{tmp_path}/0.jpg,a", "1.jpg,a")
    monkeypatch.chdir("/")
    assert read_manifest(path).parts["train"].paths == (tmp_path / "0.jpg", tmp_path / "1.jpg")


def test_parquet_holds_the_same_with_labels_as_lists(write, tmp_path):
    write("path")
    table: dict[str, list[Any]] = {
        "path": ["0.jpg", "1.jpg", "2.jpg"],
        "labels": [["a", "b"], [], None],
        "split": ["train", "val", None],
    }
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    assert found(path) == {
        "train": [("0.jpg", ("a", "b")), ("2.jpg", ())],
        "validation": [("1.jpg", ())],
    }


def test_pictures_that_do_not_exist_are_named_and_stay_in(write):
    read = read_manifest(write("path,label", "0.jpg,a", "gone.jpg,b"))
    assert len(read.parts["train"]) == 2
    assert "1 pictures that do not exist" in read.warnings[0] and "gone.jpg" in read.warnings[0]


def test_a_row_that_comes_twice_counts_once_and_is_named(write):
    read = read_manifest(write("path,label", "0.jpg,a", "./0.jpg,a"))
    assert len(read.parts["train"]) == 1
    assert "lists 1 pictures twice: ./0.jpg" in read.warnings[0]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["path,label"], "has no rows"),
        (["file,label", "0.jpg,a"], "has no column 'path'"),
        (["path,lable", "0.jpg,a"], "has no column 'label' or 'labels'; did you mean 'lable'"),
        (["path,label", ",a"], "row 2: path is empty"),
        (["path,label", "0.jpg,"], "row 2: label is empty"),
        (["path,label,split", "0.jpg,a,dev"], "row 2: split 'dev' is none of train, val, test"),
        (["path,label", "0.jpg,a", "0.jpg,b"], "row 3: 0.jpg is listed twice, labelled otherwise"),
        (["path,label", "0.jpg,a,b"], "row 2: 3 fields under 2 columns"),
        (["path,label", "x/gone.jpg,a"], "none of its 1 pictures exists"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_row(write, lines, words):
    path = write(*lines)
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_manifest(tmp_path / "gone.csv")
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(DataError, match="is no UTF-8 text"):
        read_manifest(binary)
    parquet = tmp_path / "b.parquet"
    parquet.write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet") as caught:
        read_manifest(parquet)
    assert "\n" not in str(caught.value)


NAME = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@given(st.lists(NAME, min_size=1, max_size=6))
def test_any_label_names_come_back_as_they_were_written(tmp_path_factory, names):
    import csv

    folder = tmp_path_factory.mktemp("names")
    (folder / "0.jpg").touch()
    with open(folder / "t.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([f"{i}.jpg", name] for i, name in enumerate(names))
    labels = read_manifest(folder / "t.csv").parts["train"].labels
    assert labels == tuple((name,) for name in names)

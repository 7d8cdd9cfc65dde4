"""Tables of images are read in many variants, or refused with the row."""

from __future__ import annotations

import csv
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.check import check_evaluated
from visiongraft.data.manifest import read_manifest
from visiongraft.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a table beside the images 0.jpg to 9.jpg, which reading does not decode."""

    def table(*lines: str, name: str = "table.csv", encoding: str = "utf-8") -> Path:
        for i in range(10):
            (tmp_path / f"{i}.jpg").touch()
        path = tmp_path / name
        path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
        return path

    return table


def found(path: Path) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    return {
        part: [(p.name, labels) for p, labels in zip(files.paths, files.targets, strict=True)]
        for part, files in read_manifest(path).splits.items()
    }


def test_rows_become_splits_in_the_order_of_the_table(write):
    path = write("path,label,split", "2.jpg,b,val", "1.jpg,a,train", "0.jpg,b,", "3.jpg,a,test")
    assert found(path) == {
        "train": [("1.jpg", ("a",)), ("0.jpg", ("b",))],
        "validation": [("2.jpg", ("b",))],
        "test": [("3.jpg", ("a",))],
    }
    assert read_manifest(path).names == ("a", "b") and not read_manifest(path).warnings


def test_further_columns_become_attributes(write: Write) -> None:
    path = write("path,label,Site,camera", "1.jpg,a,north,7", "0.jpg,b,,")
    files = read_manifest(path).splits["train"]
    assert [files.attributes(i) for i in range(2)] == [
        {"site": "north", "camera": "7"},
        {"site": "", "camera": ""},
    ]
    plain = write("path,label", "1.jpg,a")
    assert read_manifest(plain).splits["train"].attributes(0) == {}


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        (["path\tlabel", "0.jpg\ta"], {"name": "t.tsv"}),
        (["path;label", "0.jpg;a"], {}),
        (["path,label", "0.jpg,a"], {"encoding": "utf-8-sig"}),
        (["", " Path , LABEL ", "", " 0.jpg , a "], {}),
        (["", "path\tlabel", "0.jpg\ta"], {}),
        (["path,label", '"0.jpg","a"'], {}),
        (["path,label,note", "0.jpg,a"], {}),
        ([",path,label", "0,0.jpg,a"], {}),
        (["label,note,path", "a,,0.jpg"], {}),
        (["path,label\r", "0.jpg,a\r"], {}),
        (["path,label\r0.jpg,a\r"], {}),
        (["path,label", "0.jpg,a"], {"name": "t.TXT"}),
    ],
    ids=[
        "tabs",
        "semicolons",
        "byte order mark",
        "spaces and case",
        "tabs below an empty line",
        "quotes",
        "short row",
        "index column",
        "another order",
        "lines of Windows",
        "lines of old Macs",
        "another suffix",
    ],
)
def test_tables_are_read_as_programs_write_them(write, lines, options):
    assert found(write(*lines, **options)) == {"train": [("0.jpg", ("a",))]}


@pytest.mark.parametrize("name", ["filename", "File_Name", "image", "filepath", "img"])
@pytest.mark.parametrize("label", ["class", "Category", "class_name", "target"])
def test_columns_may_have_other_names(write, name, label):
    assert found(write(f"{name},{label}", "0.jpg,a")) == {"train": [("0.jpg", ("a",))]}


def test_the_columns_own_names_come_first(write):
    lines = ("image,path,class,label", "1.jpg,0.jpg,b,a")
    assert found(write(*lines)) == {"train": [("0.jpg", ("a",))]}


def test_a_split_column_of_another_name_is_reported(write):
    read = read_manifest(write("path,label,subset", "0.jpg,a,val"))
    assert list(read.splits) == ["train"]
    assert read.warnings[0].endswith(
        "column 'subset' is ignored; rename it to 'split' if it contains the splits"
    )


@pytest.mark.parametrize("folder", ["images", "IMG", "table"])
def test_images_may_be_in_a_folder_beside_the_table(write, tmp_path, folder):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "x.jpg").touch()
    path = write("filename,label", "x.jpg,a", "missing.jpg,b", name="table.csv")
    read = read_manifest(path)
    assert read.splits["train"].paths[0] == tmp_path / folder / "x.jpg"
    (tmp_path / "missing.jpg").touch()  # if any of them is beside the table, all are searched there
    assert read_manifest(path).splits["train"].paths[0] == tmp_path / "x.jpg"


def test_quoted_names_may_hold_the_separator_quotes_and_spaces(write, tmp_path):
    names = ["a,b.jpg", 'say "cheese".jpg', "a  b.jpg", "ä/ö.jpg", "a;b\tc.jpg"]
    (tmp_path / "ä").mkdir()
    for name in names:
        (tmp_path / name).touch()
    rows = ['"' + name.replace('"', '""') + '","big, red"' for name in names]
    read = read_manifest(write("path,label", *rows))
    assert read.splits["train"].paths == tuple(tmp_path / name for name in names)
    assert read.names == ("big, red",) and read.warnings == ()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("train", ["train", "training", " TRAIN ", ""]),
        ("validation", ["val", "valid", "validation", "Val"]),
        ("test", ["test", "testing", "TEST"]),
    ],
)
def test_parts_are_called_as_folders_are(write, part, words):
    path = write("path,label,split", *(f"{i}.jpg,a,{word}" for i, word in enumerate(words)))
    assert {p: len(files) for p, files in read_manifest(path).splits.items()} == {part: len(words)}


def test_an_image_in_two_splits_is_left_to_the_duplicate_check(write):
    path = write("path,label,split", "0.jpg,a,train", "0.jpg,b,val")
    assert found(path) == {"train": [("0.jpg", ("a",))], "validation": [("0.jpg", ("b",))]}
    assert read_manifest(path).warnings == ()


def test_the_column_label_takes_precedence_over_labels(write):
    assert found(write("path,labels,label", "0.jpg,b|c,a"))["train"] == [("0.jpg", ("a",))]


def test_several_labels_are_separated_and_may_be_none(write):
    path = write("path,labels", "0.jpg,a|b", "1.jpg,b; a;b", "2.jpg,")
    assert [labels for _, labels in found(path)["train"]] == [("a", "b"), ("b", "a"), ()]
    (warning,) = read_manifest(path).warnings
    assert "1 images without labels" in warning and "2.jpg" in warning


def test_the_column_label_is_one_name_even_with_separators(write):
    assert found(write("path,label", "0.jpg,a|b"))["train"] == [("0.jpg", ("a|b",))]


def test_absolute_paths_stay_and_relative_ones_start_at_the_table(write, tmp_path, monkeypatch):
    path = write("path,label", f"{tmp_path}/0.jpg,a", "1.jpg,a")
    monkeypatch.chdir("/")
    assert read_manifest(path).splits["train"].paths == (tmp_path / "0.jpg", tmp_path / "1.jpg")


def test_relative_paths_may_leave_the_tables_folder(write, tmp_path):
    (tmp_path / "tables").mkdir()
    path = write("path,label", "../0.jpg,a", "../x/../1.jpg,a", name="tables/t.csv")
    assert read_manifest(path).splits["train"].paths == (tmp_path / "0.jpg", tmp_path / "1.jpg")


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


def test_empty_labels_in_a_parquet_list_are_none(write, tmp_path):
    write("path")
    path = tmp_path / "t.parquet"
    labels = [["a", None, " b "], [None], ["", "a", "a"]]
    table = pyarrow.table({"path": ["0.jpg", "1.jpg", "2.jpg"], "labels": labels})
    pyarrow.parquet.write_table(table, path)
    assert [labels for _, labels in found(path)["train"]] == [("a", "b"), (), ("a",)]


@pytest.mark.parametrize(
    "labels", [["3", "10"], [3, 10], pyarrow.array(["3", "10"]).dictionary_encode()]
)
def test_parquet_labels_may_be_text_numbers_or_categories(write, tmp_path, labels):
    write("path")
    path = tmp_path / "T.PARQUET"
    pyarrow.parquet.write_table(pyarrow.table({" Path": ["0.jpg", "1.jpg"], "Label": labels}), path)
    assert found(path) == {"train": [("0.jpg", ("3",)), ("1.jpg", ("10",))]}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"photo": ["0.jpg"], "label": ["a"]}, "has no column 'path'"),
        ({"path": ["0.jpg"], "lable": ["a"]}, "has no column 'label' or 'labels'; did you mean"),
        ({"path": [None], "label": ["a"]}, "row 1: path is empty"),
        ({"path": ["0.jpg", "1.jpg"], "label": ["a", None]}, "row 2: label is empty"),
        ({"path": ["0.jpg"], "label": [float("nan")]}, "row 1: label is empty"),
        ({"path": ["0.jpg"], "label": ["a"], "split": ["dev"]}, "row 1: split 'dev' is none of"),
        ({"path": pyarrow.array([], pyarrow.string())}, "has no rows"),
    ],
)
def test_a_parquet_table_that_cannot_be_meant_is_refused(write, tmp_path, table, words):
    write("path")
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(str(path))


def test_parquet_without_pyarrow_is_refused_with_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r'pip install "visiongraft\[parquet\]"$'):
        read_manifest(tmp_path / "t.parquet")


def test_images_that_do_not_exist_are_named_and_stay_in(write, tmp_path):
    read = read_manifest(write("path,label", "0.jpg,a", "missing.jpg,b"))
    assert len(read.splits["train"]) == 2
    (warning,) = read.warnings
    assert "1 images that do not exist" in warning and str(tmp_path / "missing.jpg") in warning


def test_images_that_do_not_exist_count_as_unreadable(write):
    files = read_manifest(write("path,label", "0.jpg,a", "missing.jpg,b")).splits["train"]
    words = r"^2 of 2 images are unreadable: .*0.jpg: .*empty.*; .*missing.jpg: .*No such file"
    with pytest.raises(DataError, match=words):
        check_evaluated(files)


def test_a_row_that_comes_twice_counts_once_and_is_named(write):
    read = read_manifest(write("path,label", "0.jpg,a", "./0.jpg,a"))
    assert len(read.splits["train"]) == 1
    assert "lists 1 images more than once; each counts once: ./0.jpg" in read.warnings[0]


def test_a_name_with_a_line_break_stays_on_one_line(write, tmp_path):
    (tmp_path / "x\ny.jpg").touch()
    rows = ['"x\ny.jpg",', '"x\ny.jpg",', '"missing\n.jpg",a']
    warnings = read_manifest(write("path,labels", *rows, name="t\n.csv")).warnings
    assert len(warnings) == 3 and not any("\n" in line for line in warnings)
    for name, content in (("t\n.csv", b"path,label\n"), ("u\n.csv", b"\xff"), ("\n.parquet", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_manifest(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "has no rows"),
        (["path,label"], "has no rows"),
        (["path,label", "", " , "], "has no rows"),
        (["photo,label", "0.jpg,a"], "has no column 'path'"),
        (
            ["file,image,label", "0.jpg,1.jpg,a"],
            "columns file and image; rename the right one to 'path'",
        ),
        (
            ["path,class,category", "0.jpg,a,b"],
            "columns class and category; rename the right one to 'label'",
        ),
        (["path,lable", "0.jpg,a"], "has no column 'label' or 'labels'; did you mean 'lable'"),
        (["path,label", ",a"], "row 2: path is empty"),
        (["path,label", "0.jpg,"], "row 2: label is empty"),
        (["path,label,split", "0.jpg,a,dev"], "row 2: split 'dev' is none of train, val, test"),
        (
            ["path,label", "0.jpg,a", "0.jpg,b"],
            "row 3: 0.jpg is listed twice, with different labels",
        ),
        (["path,label", "0.jpg,a,b"], "row 2: 3 fields for 2 columns"),
        (["path,label", "", "0.jpg,a", "", "1.jpg,"], "row 5: label is empty"),
        (["path,label", "x/missing.jpg,a"], "none of its 1 images exists, such as .*x/missing.jpg"),
        (["path,label", '0.jpg,"a', "1.jpg,b"], "is not valid CSV: unexpected end of data"),
        (["path,label", '0.jpg,"a', '1.jpg,"b'], "is not valid CSV: ',' expected after '\"'"),
        (["path,label", f"0.jpg,{'a' * 200_000}"], "is not valid CSV: field larger than"),
    ],
)
def test_a_malformed_table_is_refused_and_names_the_row(write, lines, words):
    path = write(*lines)
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_files_that_are_not_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_manifest(tmp_path / "missing.csv")
    with pytest.raises(DataError, match="is not a file"):
        read_manifest(tmp_path)
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_manifest(binary)
    parquet = tmp_path / "b.parquet"
    parquet.write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet") as caught:
        read_manifest(parquet)
    assert "\n" not in str(caught.value)


NAME = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@given(st.lists(NAME, min_size=1, max_size=6))
def test_any_label_names_come_back_as_written_in_their_composed_form(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    (folder / "0.jpg").touch()
    with open(folder / "t.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([f"{i}.jpg", name] for i, name in enumerate(names))
    labels = read_manifest(folder / "t.csv").splits["train"].targets
    assert labels == tuple((unicodedata.normalize("NFC", name),) for name in names)


def test_a_path_in_another_spelling_is_the_same_image(write, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b.jpg").touch()
    read = read_manifest(write("path,label", "sub\\a b.jpg,a", "sub/a%20b.jpg,a", "0.jpg,b"))
    assert [p.name for p in read.splits["train"].paths] == ["a b.jpg", "0.jpg"]
    assert "lists 1 images more than once" in read.warnings[0]


def test_labels_lose_their_control_characters_and_their_unicode_form(write):
    read = read_manifest(write("path,label", "0.jpg,\x1b[31ma", "1.jpg,gru\u0308n", "2.jpg,grün"))
    assert read.names == ("\\x1b[31ma", "grün")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_table_may_be_in_an_encoding_that_its_byte_order_mark_names(write, encoding):
    assert found(write("path,label", "0.jpg,grün", encoding=encoding)) == {
        "train": [("0.jpg", ("grün",))]
    }


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_a_table_in_an_encoding_that_nothing_names_is_refused(write, encoding):
    with pytest.raises(DataError, match=r"(is not UTF-8 text .*|a null byte); save it as UTF-8"):
        read_manifest(write("path,label", "0.jpg,grün", encoding=encoding))


def test_a_null_byte_in_a_path_is_refused_with_its_line(write):
    with pytest.raises(DataError, match=r"table\.csv, line 2: contains a null byte"):
        read_manifest(write("path,label", "a\0.jpg,a"))

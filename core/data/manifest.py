"""Read CSV and Parquet tables of images, labels and splits."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable
from visiongraft.data.folder import LabeledSplits
from visiongraft.data.labels import class_name
from visiongraft.data.listing import IMAGE_FOLDERS, SPLIT_WORDS, folders_named
from visiongraft.data.names import find_listed
from visiongraft.data.parsing import read_table
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some, near_matches, one_line

MANIFEST_SUFFIXES = (".csv", ".parquet", ".tsv")
# fmt: off
PATH_COLUMNS = (
    "path", "filename", "file_name", "file", "filepath", "file_path", "image", "img", "image_path",
    "img_path", "image_name",
)
# fmt: on
ONE_COLUMN_PER_CLASS = "_classes.csv"  # Roboflow's name of such a table
LABEL_COLUMNS = ("label", "labels", "class", "category", "class_name", "label_name", "target")
OTHER_SPLIT_COLUMNS = ("set", "subset", "part", "partition", "fold")
_SEPARATORS = re.compile(r"[|;]")

Row = tuple[int, Mapping[str, Any]]


def read_manifest(path: Path) -> LabeledSplits:
    """Read a table of images.

    Images that do not exist are named in a warning and kept, to be counted with the other
    unreadable ones; if none exists, that is an error.

    Args:
        path: A CSV, TSV or Parquet file with the columns ``path``, ``label`` (or ``labels``: any
            number of class names separated by ``|`` or ``;``, or a list in Parquet) and optionally
            ``split`` (train, val, validation, test; empty means train). The first two may have
            another name of ``PATH_COLUMNS`` and ``LABEL_COLUMNS``. Paths are relative to the
            folder of the table, or see ``find_base``; and see ``names.spellings``. A table named
            ``_classes.csv`` has one column of 0 and 1 per class instead of labels. Further columns
            become attributes of the samples, by their names in lower case.

    Returns:
        Files by split, in the order of the table. An image that is listed twice counts once.

    Raises:
        DataError: The table does not exist or is malformed, lacks a column, or has a row without
            a path, a label or a known split.
    """
    shown = printable(path)
    rows = read_rows(path)
    first = rows[0][1]
    path_column = find_column(shown, first, PATH_COLUMNS)
    classes = _class_columns(path, first, path_column)
    label_column = "labels" if classes else find_column(shown, first, LABEL_COLUMNS, 2)
    several = label_column == "labels"
    base = find_base(path, [cell_text(row[path_column]) for _, row in rows])
    used = {path_column, label_column, "split", *classes}
    attributes: dict[tuple[str, str], dict[str, str]] = {}
    listed: dict[tuple[str, str], tuple[str, ...]] = {}
    repeated: list[str] = []
    for number, row in rows:
        where = f"{shown}, row {number}"
        name = cell_text(row[path_column])
        labels = _ones(row, classes, where) if classes else _labels(row[label_column], several)
        if not name or not (labels or several):
            empty = label_column if name else "path"
            raise DataError(f"{where}: {empty} is empty; fill it in or remove the row")
        path_found = find_listed(base, name) or base / name
        key = split_of(where, row.get("split")), os.path.normpath(path_found)
        if key in listed:
            repeated.append(printable(name))
        attributes[key] = {n: cell_text(value) for n, value in row.items() if n not in used}
        if listed.setdefault(key, labels) != labels:
            raise DataError(
                f"{where}: {printable(name)} is listed twice, with different labels; write one row "
                "per image (several labels go into a column 'labels', separated by |)"
            )
    warnings = [
        *missing_files(shown, base, [file for _, file in listed]),
        *_oddities(shown, first, listed, repeated),
    ]
    names = sorted({*classes.values(), *(n for labels in listed.values() for n in labels)})
    return LabeledSplits(_by_split(listed, attributes), tuple(names), tuple(warnings))


def _oddities(
    shown: str,
    first: Mapping[str, Any],
    listed: Mapping[tuple[str, str], Sequence[str]],
    repeated: Sequence[str],
) -> Iterator[str]:
    """Find what a user should know about a table that can be read.

    Args:
        shown: The table.
        first: Its first row.
        listed: Labels by split and file.
        repeated: Images that are listed again.
    """
    if repeated:
        yield images_listed_twice(shown, repeated)
    for name in OTHER_SPLIT_COLUMNS:
        if name in first and "split" not in first:
            yield (
                f"{shown}: column {name!r} is ignored; rename it to 'split' if it contains the splits"
            )
    unlabeled = [printable(file) for (_, file), labels in listed.items() if not labels]
    if unlabeled:
        yield f"{shown} lists {len(unlabeled)} images without labels: {name_some(unlabeled)}"


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a table.

    Args:
        path: A CSV, TSV or Parquet file.

    Returns:
        The number of each row, and its cells by the name of the column in lower case; at least one row.

    Raises:
        DataError: The table does not exist, cannot be read or has no rows.
    """
    shown = printable(path)
    if not path.is_file():
        raise DataError(f"{shown} does not exist or is not a file; pass a CSV or Parquet file")
    is_parquet = path.suffix.lower() == ".parquet"
    rows: list[Row] = _parquet_rows(path) if is_parquet else [*read_table(path)[1]]
    if not rows:
        raise DataError(f"{shown} has no rows")
    return rows


def _parquet_rows(path: Path) -> list[Row]:
    shown = printable(path)
    try:
        from pyarrow import parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataError(
            f'{shown}: reading Parquet requires pyarrow; pip install "visiongraft[parquet]"'
        ) from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except Exception as error:  # pyarrow raises many types
        raise DataError(f"{shown} cannot be read as Parquet: {one_line(error)}") from error
    return [
        (i, {str(k).strip().lower(): v for k, v in row.items()}) for i, row in enumerate(rows, 1)
    ]


def find_base(table: Path, names: Sequence[str]) -> Path:
    """Find the folder that the paths in a table are relative to.

    Args:
        table: Path of the table.
        names: The paths in the table.

    Returns:
        The folder of the table. If none of a few probed images is there, the first folder next to
        the table, named like the table or like a folder of images, that contains one.
    """
    probes = names[:: max(len(names) // 20, 1)]
    beside = folders_named(table.parent, (table.stem.lower(), *IMAGE_FOLDERS))
    for folder in (table.parent, *beside):
        if any(find_listed(folder, name) for name in probes):
            return folder
    return table.parent


def find_column(
    shown: str, row: Mapping[str, Any], names: Sequence[str], own_names: int = 1
) -> str:
    """Find a column by its standard name, otherwise by the only other name in use.

    Args:
        shown: Name of the table in messages.
        row: A row.
        names: The names that the column may have, those that it should have first.
        own_names: How many of these are standard.

    Raises:
        DataError: There is no such column, or there are several.
    """
    own = names[:own_names]
    for name in own:
        if name in row:
            return name
    others = [name for name in names if name in row]
    if len(others) > 1:
        raise DataError(
            f"{shown} has the columns {' and '.join(others)}; rename the right one to {names[0]!r}"
        )
    if not others:
        standard = " or ".join(map(repr, own))
        raise DataError(f"{shown} has no column {standard}{near_matches(names[0], row)}")
    return others[0]


def _class_columns(path: Path, row: Mapping[str, Any], path_column: str) -> dict[str, str]:
    """Return the class of each column of a table with one column per class; empty for others."""
    if path.name.lower() != ONE_COLUMN_PER_CLASS or any(name in row for name in LABEL_COLUMNS):
        return {}
    names = [n for n in read_table(path, lowercase=False)[0] if n]
    return {n.lower(): class_name(n) for n in names if n.lower() not in (path_column, "split")}


def _ones(row: Mapping[str, Any], classes: Mapping[str, str], where: str) -> tuple[str, ...]:
    for column in classes:
        if cell_text(row[column]) not in ("0", "1"):
            raise DataError(
                f"{where}: the column {column!r} contains {cell_text(row[column])[:40]!r}; a table of "
                "one column per class contains 0 and 1"
            )
    return tuple(name for column, name in classes.items() if cell_text(row[column]) == "1")


def cell_text(value: Any) -> str:
    """Return the text of a cell; an empty cell may be an empty text, ``None`` or NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _labels(value: Any, several: bool) -> tuple[str, ...]:
    if not isinstance(value, str) and isinstance(value, Iterable):
        names = [cell_text(v) for v in value]
    else:
        names = _SEPARATORS.split(cell_text(value)) if several else [cell_text(value)]
    return tuple(dict.fromkeys(class_name(name.strip()) for name in names if name.strip()))


def split_of(where: str, value: Any) -> str:
    """Return the split that a cell names; ``"train"`` if it is empty."""
    word = cell_text(value).lower()
    if not word:
        return "train"
    for split, words in SPLIT_WORDS.items():
        if word in words:
            return split
    raise DataError(f"{where}: split {word!r} is none of train, val, test")


def images_listed_twice(shown: str, names: Sequence[str]) -> str:
    """Return the warning about images that a table or list contains more than once.

    Args:
        shown: Name of the table in messages.
        names: The names of the images, once for each repetition.
    """
    return f"{shown} lists {len(names)} images more than once; each counts once: {name_some(names)}"


def missing_files(shown: str, folder: Path, files: list[str]) -> list[str]:
    """Warn about images of a table that do not exist.

    Args:
        shown: Name of the table in messages.
        folder: The folder that paths are relative to.
        files: Paths of the images.

    Returns:
        One warning, or none.

    Raises:
        DataError: None of them exists.
    """
    missing = [file for file in files if not os.path.isfile(file)]
    if not missing:
        return []
    if len(missing) == len(files):
        raise DataError(
            f"{shown}: none of its {len(files)} images exists, such as {printable(missing[0])}; "
            f"paths are relative to {printable(folder)}"
        )
    named = name_some(printable(file) for file in missing)
    return [f"{shown} lists {len(missing)} images that do not exist: {named}"]


def _by_split(
    listed: dict[tuple[str, str], tuple[str, ...]],
    attributes: dict[tuple[str, str], dict[str, str]],
) -> dict[str, FileSamples]:
    found = {}
    for split in SPLIT_WORDS:
        own = [
            (Path(key[1]), labels, attributes[key])
            for key, labels in listed.items()
            if key[0] == split
        ]
        if own:
            paths, targets, further = zip(*own, strict=True)
            found[split] = FileSamples(paths, targets, further=further if any(further) else ())
    return found

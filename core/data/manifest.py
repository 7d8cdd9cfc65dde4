"""CSV and Parquet tables that name images, labels and parts."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable, read_file
from visiongraft.data.folder import LabeledFiles, LabeledSplits
from visiongraft.data.listing import IMAGE_FOLDERS, SPLIT_WORDS, folders_named
from visiongraft.errors import DataError, name_some, near_matches, one_line

MANIFEST_SUFFIXES = (".csv", ".parquet", ".tsv")
# fmt: off
PATHS = (
    "path", "filename", "file_name", "file", "filepath", "file_path", "image", "img", "image_path",
    "img_path", "image_name",
)
# fmt: on
LABELS = ("label", "labels", "class", "category", "class_name", "label_name", "target")
SPLITS = ("set", "subset", "part", "partition", "fold")
_SEPARATORS = re.compile(r"[|;]")

Row = tuple[int, dict[str, Any]]


def read_manifest(path: Path) -> LabeledSplits:
    """Read a table of images.

    Images that do not exist are named in a warning and stay in, to be counted with the other
    unreadable ones; if none exists, that is an error.

    Args:
        path: A CSV, TSV or Parquet file with the columns ``path``, ``label`` (or ``labels``: names
            separated by ``|`` or ``;``, or a list in Parquet, maybe none) and, if the set is
            divided, ``split`` (train, val, validation, test; empty means train). The first two may
            have one of the other names in ``PATHS`` and ``LABELS``. Relative paths start at the
            table's folder, or see ``find_base``.

    Returns:
        Files by part, in the table's order.

    Raises:
        DataError: The table is missing or damaged, lacks a column, or has a row without path,
            label or a known split.
    """
    shown = printable(path)
    if not path.is_file():
        raise DataError(f"{shown} does not exist or is no file; give a CSV or Parquet file")
    rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
    if not rows:
        raise DataError(f"{shown} has no rows")
    first = rows[0][1]
    path_column, column = _column(shown, first, PATHS), _column(shown, first, LABELS)
    base = find_base(path, [_text(row[path_column]) for _, row in rows])
    listed: dict[tuple[str, str], tuple[str, ...]] = {}
    repeated: list[str] = []
    for number, row in rows:
        place = f"{shown}, row {number}"
        name, labels = _text(row[path_column]), _labels(row[column], several=column == "labels")
        if not name or not (labels or column == "labels"):
            empty = column if name else "path"
            raise DataError(f"{place}: {empty} is empty; fill it in or drop the row")
        key = _part(place, row.get("split")), os.path.normpath(base / name)
        if key in listed:
            repeated.append(printable(name))
        if listed.setdefault(key, labels) != labels:
            raise DataError(
                f"{place}: {printable(name)} is listed twice, labeled otherwise; give one row per "
                "image (several labels go into a column 'labels', separated by |)"
            )
    warnings = missing_files(shown, base, [file for _, file in listed])
    if repeated:
        warnings.append(f"{shown} lists {len(repeated)} images twice: {name_some(repeated)}")
    warnings += [
        f"{shown}: column {name!r} is not read; call it 'split' if it holds parts"
        for name in SPLITS
        if name in first and "split" not in first
    ]
    unlabeled = [printable(file) for (_, file), labels in listed.items() if not labels]
    if unlabeled:
        warnings.append(
            f"{shown} lists {len(unlabeled)} images without any label: {name_some(unlabeled)}"
        )
    names = sorted({label for labels in listed.values() for label in labels})
    return LabeledSplits(_by_part(listed), tuple(names), tuple(warnings))


def _csv_rows(path: Path) -> list[Row]:
    shown = printable(path)
    try:
        text = read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is no UTF-8 text ({error}); save it as UTF-8") from error
    header = text.lstrip().partition("\n")[0]
    delimiter = max(",\t;", key=header.count)
    # Strict, or a quote that is never closed would swallow all rows after it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return list(_checked_rows(shown, reader))
    except csv.Error as error:
        raise DataError(f"{shown} is no valid CSV: {error}") from error


def _checked_rows(shown: str, reader: Any) -> Iterator[Row]:
    columns: list[str] = []
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        if not columns:
            columns = [field.strip().lower() for field in fields]
            continue
        if len(fields) > len(columns):
            raise DataError(
                f"{shown}, row {reader.line_num}: {len(fields)} fields under {len(columns)} "
                'columns; put fields that hold the separator into "quotes"'
            )
        padded = fields + [""] * (len(columns) - len(fields))
        yield reader.line_num, dict(zip(columns, padded, strict=True))


def _parquet_rows(path: Path) -> list[Row]:
    shown = printable(path)
    try:
        from pyarrow import parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataError(
            f'{shown}: reading Parquet takes pyarrow; pip install "visiongraft[parquet]"'
        ) from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except Exception as error:  # its errors are of many types
        cause = one_line(error)
        raise DataError(f"{shown} cannot be read as Parquet: {cause}") from error
    return [
        (i, {str(k).strip().lower(): v for k, v in row.items()}) for i, row in enumerate(rows, 1)
    ]


def find_base(table: Path, names: Sequence[str]) -> Path:
    """Find the folder that the paths in a table are relative to.

    Args:
        table: The file.
        names: The paths.

    Returns:
        The table's folder; only if none of some images lies there, the first of a folder of the
        table's own name, or of one for images beside it, in which some do.
    """
    probes = names[:: max(len(names) // 20, 1)]
    beside = folders_named(table.parent, (table.stem.lower(), *IMAGE_FOLDERS))
    for folder in (table.parent, *beside):
        if any(name and os.path.isfile(folder / name) for name in probes):
            return folder
    return table.parent


def _column(shown: str, row: dict[str, Any], names: Sequence[str]) -> str:
    """Find a column: by its own name, the first one, else by the only other one."""
    own = names[:2] if names is LABELS else names[:1]
    for name in own:
        if name in row:
            return name
    others = [name for name in names if name in row]
    if len(others) > 1:
        raise DataError(
            f"{shown} has the columns {' and '.join(others)}; call the right one {names[0]!r}"
        )
    if not others:
        wanted = " or ".join(map(repr, own))
        raise DataError(f"{shown} has no column {wanted}{near_matches(names[0], row)}")
    return others[0]


def _text(value: Any) -> str:
    """Read a cell; tables say empty with nothing, ``None`` or NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _labels(value: Any, several: bool) -> tuple[str, ...]:
    if not isinstance(value, str) and isinstance(value, Iterable):
        names = [_text(v) for v in value]
    else:
        names = _SEPARATORS.split(_text(value)) if several else [_text(value)]
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def _part(place: str, value: Any) -> str:
    word = _text(value).lower()
    if not word:
        return "train"
    for part, words in SPLIT_WORDS.items():
        if word in words:
            return part
    raise DataError(f"{place}: split {word!r} is none of train, val, test")


def missing_files(shown: str, folder: Path, files: list[str]) -> list[str]:
    """Say which images of a table do not exist.

    Args:
        shown: The table.
        folder: Where relative paths start.
        files: The images.

    Returns:
        A warning, or none.

    Raises:
        DataError: None of them exists.
    """
    missing = [file for file in files if not os.path.isfile(file)]
    if not missing:
        return []
    if len(missing) == len(files):
        raise DataError(
            f"{shown}: none of its {len(files)} images exists, such as {printable(missing[0])}; "
            f"relative paths start at {printable(folder)}"
        )
    named = name_some(printable(file) for file in missing)
    return [f"{shown} lists {len(missing)} images that do not exist: {named}"]


def _by_part(listed: dict[tuple[str, str], tuple[str, ...]]) -> dict[str, LabeledFiles]:
    found = {}
    for part in SPLIT_WORDS:
        own = [(Path(file), labels) for (p, file), labels in listed.items() if p == part]
        if own:
            paths, labels = zip(*own, strict=True)
            found[part] = LabeledFiles(paths, labels)
    return found

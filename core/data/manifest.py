"""CSV and Parquet tables that name pictures, labels and parts."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable, read_file
from visiongraft.data.folder import LabelledFiles, LabelledParts
from visiongraft.data.listing import PARTS
from visiongraft.errors import DataError, name_some, near_matches, on_one_line

MANIFEST_SUFFIXES = (".csv", ".parquet", ".tsv")
_SEPARATORS = re.compile(r"[|;]")

Row = tuple[int, dict[str, Any]]


def read_manifest(path: Path) -> LabelledParts:
    """Read a table of pictures.

    Pictures that do not exist are named in a warning and stay in, to be counted with the other
    unreadable ones; if none exists, that is an error.

    Args:
        path: A CSV, TSV or Parquet file with the columns ``path``, ``label`` (or ``labels``: names
            separated by ``|`` or ``;``, or a list in Parquet, maybe none) and, if the set is
            divided, ``split`` (train, val, validation, test; empty means train). Relative paths
            start at the table's folder.

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
    column = _label_column(shown, rows[0][1])
    listed: dict[tuple[str, str], tuple[str, ...]] = {}
    repeated: list[str] = []
    for number, row in rows:
        place = f"{shown}, row {number}"
        name, labels = _text(row["path"]), _labels(row[column], several=column == "labels")
        if not name or not (labels or column == "labels"):
            empty = column if name else "path"
            raise DataError(f"{place}: {empty} is empty; fill it in or drop the row")
        key = _part(place, row.get("split")), os.path.normpath(path.parent / name)
        if key in listed:
            repeated.append(printable(name))
        if listed.setdefault(key, labels) != labels:
            raise DataError(
                f"{place}: {printable(name)} is listed twice, labelled otherwise; give one row per "
                "picture (several labels go into a column 'labels', separated by |)"
            )
    warnings = _missing(shown, path.parent, [file for _, file in listed])
    if repeated:
        warnings.append(f"{shown} lists {len(repeated)} pictures twice: {name_some(repeated)}")
    unlabelled = [printable(file) for (_, file), labels in listed.items() if not labels]
    if unlabelled:
        warnings.append(
            f"{shown} lists {len(unlabelled)} pictures without any label: {name_some(unlabelled)}"
        )
    names = sorted({label for labels in listed.values() for label in labels})
    return LabelledParts(_by_part(listed), tuple(names), tuple(warnings))


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
        cause = on_one_line(str(error))
        raise DataError(f"{shown} cannot be read as Parquet: {cause}") from error
    return [
        (i, {str(k).strip().lower(): v for k, v in row.items()}) for i, row in enumerate(rows, 1)
    ]


def _label_column(shown: str, row: dict[str, Any]) -> str:
    if "path" not in row:
        raise DataError(f"{shown} has no column 'path'{near_matches('path', row)}")
    for name in ("label", "labels"):
        if name in row:
            return name
    raise DataError(f"{shown} has no column 'label' or 'labels'{near_matches('label', row)}")


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
    for part, words in PARTS.items():
        if word in words:
            return part
    raise DataError(f"{place}: split {word!r} is none of train, val, test")


def _missing(shown: str, folder: Path, files: list[str]) -> list[str]:
    missing = [file for file in files if not os.path.isfile(file)]
    if not missing:
        return []
    if len(missing) == len(files):
        raise DataError(
            f"{shown}: none of its {len(files)} pictures exists, such as {printable(missing[0])}; "
            f"relative paths start at {printable(folder)}"
        )
    named = name_some(printable(file) for file in missing)
    return [f"{shown} lists {len(missing)} pictures that do not exist: {named}"]


def _by_part(listed: dict[tuple[str, str], tuple[str, ...]]) -> dict[str, LabelledFiles]:
    found = {}
    for part in PARTS:
        own = [(Path(file), labels) for (p, file), labels in listed.items() if p == part]
        if own:
            paths, labels = zip(*own, strict=True)
            found[part] = LabelledFiles(paths, labels)
    return found

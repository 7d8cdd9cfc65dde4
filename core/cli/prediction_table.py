"""Predictions as a file: JSON, or a table with one row per image or per object of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visiongraft.cli.output import to_json
from visiongraft.errors import OptionError
from visiongraft.saving.files import write_bytes, write_json

TABLES = (".csv", ".parquet")
FORMATS = (*TABLES, ".json")
OTHER_FORMATS = (".jsonl", ".tsv", ".xlsx")


def is_prediction_file(out: Path) -> bool:
    """Check whether ``--out`` is a file of predictions, not a folder.

    Raises:
        OptionError: It is a file of a format that is not written.
    """
    if str(out) == "-":
        raise OptionError("--out -: to print predictions, pass --csv - or --json")
    suffix = "" if out.is_dir() else out.suffix.lower()
    if suffix in OTHER_FORMATS:
        raise OptionError(f"--out {out}: pass a .csv, .parquet or .json file, or a folder")
    return suffix in FORMATS


def write_predictions(path: Path, predictions: Sequence[Any], values: Sequence[Any]) -> None:
    """Write a .json file with all values, or a table; see ``to_csv``."""
    if path.suffix.lower() == ".json":
        write_json(path, to_json(values))
    else:
        write_rows(path, *_table(predictions, values))


def to_csv(predictions: Sequence[Any], values: Sequence[Mapping[str, Any]]) -> str:
    """Write predictions as CSV with a row of column names.

    Args:
        predictions: One per image. Those with a method ``rows()``, which returns dicts of plain values,
            have one row for each of these, or an empty one if there are none.
        values: The values of each prediction by name, with the path as ``image``. Without ``rows()``
            they are the row: values within others are named as ``probabilities.daisy``, and lists are
            written as JSON.

    Returns:
        The text; a column that a row does not have is empty in it.

    Examples:
        >>> values = {"image": "a.jpg", "label": "daisy", "probabilities": {"daisy": 0.75}}
        >>> to_csv([None], [values]).splitlines()
        ['image,label,probabilities.daisy', 'a.jpg,daisy,0.75']
    """
    return _csv(*_table(predictions, values))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a table as a .csv or .parquet file.

    Args:
        path: The file; its suffix tells the format.
        rows: Values by column; a column that a row does not have is empty in it.
        columns: All columns, in order.

    Raises:
        OptionError: Parquet needs a library that is not installed.
    """
    if path.suffix.lower() == ".csv":
        write_bytes(path, _csv(rows, columns).encode())
        return
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError as error:
        raise OptionError(f'{path} needs pyarrow; pip install "visiongraft[parquet]"') from error
    content = io.BytesIO()
    values = {column: [row.get(column) for row in rows] for column in columns}
    parquet.write_table(pyarrow.table(values), content)
    write_bytes(path, content.getvalue())


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(
    predictions: Sequence[Any], values: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of all predictions, and the columns."""
    rows = [
        {"image": own["image"], **row}
        for prediction, own in zip(predictions, values, strict=True)
        for row in _rows(prediction, own)
    ]
    return rows, list(dict.fromkeys(["image", *(column for row in rows for column in row)]))


def _rows(prediction: Any, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    own = getattr(prediction, "rows", None)
    if callable(own):
        return list(own()) or [{}]
    return [dict(_flattened(to_json(values)))]


def _flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            is_list = isinstance(value, list)
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False) if is_list else value

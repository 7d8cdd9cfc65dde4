"""Parse JSON, YAML and CSV from people's files within limits, whatever the files contain.

Files of datasets come from anywhere. Within these limits a hostile or damaged one costs neither
memory nor time before it is refused in one line, and nothing in a sound one is dropped silently.
"""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from visiongraft.data.decode import (
    IMAGE_SUFFIXES,
    SMALL_FILE_BYTES,
    not_text,
    printable,
    read_file,
    read_text,
)
from visiongraft.errors import DataError, one_line

MAX_DIGITS = 100  # of an integer, so that it always fits into a float
MAX_DEPTH = 100  # of nested lists and mappings in YAML
MAX_NODES = 200_000  # values in a YAML file, after all aliases are replaced

Row = tuple[int, dict[str, str]]


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file, in UTF-8, UTF-16 or UTF-32.

    Returns:
        Its value.

    Raises:
        DataError: The file cannot be read, is not text in one of these encodings, is not valid
            JSON, is nested too deep, contains an integer with more than 100 digits, or gives a key
            of an object two different values.
    """
    content = read_file(path)
    encoding = json.detect_encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise not_text(path, encoding, error) from error
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)} is not valid JSON: {one_line(error)}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of at most 16 MB.

    Args:
        path: The file, in UTF-8.

    Returns:
        Its values by name.

    Raises:
        DataError: The file cannot be read, or is not valid TOML.
    """
    try:
        return tomllib.loads(read_text(path, SMALL_FILE_BYTES))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)} is not valid TOML: {one_line(error)}") from error


def read_yaml(path: Path, as_text: bool = False) -> Any:
    """Read a YAML file of at most 16 MB.

    Args:
        path: The file, in UTF-8.
        as_text: Keep everything but lists and mappings as text, as it is written: ``no``, ``007``
            and ``null`` are not converted to other values.

    Returns:
        Its value.

    Raises:
        DataError: The file cannot be read, is not valid YAML, has a key twice, is nested too deep,
            or has too many values after its aliases are replaced.
    """
    import yaml

    text = read_text(path, SMALL_FILE_BYTES)
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if as_text:  # only merged keys keep their meaning
        merging = {"<": loader.yaml_implicit_resolvers["<"]}
        loader = type("TextLoader", (loader,), {"yaml_implicit_resolvers": merging})
    try:
        _check_yaml(yaml.parse(text, loader))
        return yaml.load(text, loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{printable(path)} is not valid YAML: {one_line(error)}") from error


def read_table(path: Path, lowercase: bool = True) -> tuple[list[str], list[Row]]:
    """Read a CSV file with a row of column names, separated by commas, tabs or semicolons.

    Args:
        path: The file, encoded as ``read_text`` supports.
        lowercase: Whether the case of the names of columns has no meaning.

    Returns:
        The names of the columns, by default in lowercase; and of each row that is not empty the
        number of the line that it ends in, and its fields by column, all stripped of whitespace.

    Raises:
        DataError: The file cannot be read, is not valid CSV, a row has more fields than there are
            columns, or two columns of the same name have different values.
    """
    shown = printable(path)
    text = read_text(path)
    header = text.lstrip().partition("\n")[0]
    delimiter = max(",\t;", key=header.count)
    # Strict: otherwise a quote that is never closed would swallow all rows after it.
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    columns: list[str] = []
    rows: list[Row] = []
    longest = 0
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if not any(stripped):
                continue
            if columns:
                where = f"{shown}, row {reader.line_num}"
                longest = max(longest, len(fields))
                rows.append((reader.line_num, _by_column(columns, stripped, where)))
            columns = columns or [name.lower() if lowercase else name for name in stripped]
    except csv.Error as error:
        raise DataError(f"{shown} is not valid CSV: {error}") from error
    merged = len(columns) > longest and any(Path(c).suffix in IMAGE_SUFFIXES for c in columns)
    if rows and merged:  # a line end is missing after the names of the columns
        raise DataError(
            f"{shown} has {len(columns)} columns, but no row has more than {longest} fields; its "
            "first row runs into the names of the columns"
        )
    return columns, rows


def parse_number(text: str) -> int | None:
    """Parse a non-negative integer.

    Args:
        text: Decimal digits, possibly with whitespace around them.

    Returns:
        Its value; ``None`` if the text is anything else, or has more than 100 digits.

    Examples:
        >>> parse_number(" 12"), parse_number("-1"), parse_number("1" * 5000)
        (12, None, None)
    """
    digits = text.strip()
    return int(digits) if digits.isdecimal() and len(digits) <= MAX_DIGITS else None


def show_value(value: Any) -> str:
    """Return the representation of a value from a file as part of a message, cut off if long."""
    return one_line(repr(value), 80)


def _by_column(columns: Sequence[str], fields: Sequence[str], where: str) -> dict[str, str]:
    if len(fields) > len(columns):
        raise DataError(
            f"{where}: {len(fields)} fields for {len(columns)} columns; put fields that contain "
            'the separator in "quotes"'
        )
    row: dict[str, str] = {}
    for name, field in zip_longest(columns, fields, fillvalue=""):
        if row.setdefault(name, field) != field and name:
            raise DataError(
                f"{where}: the column {show_value(name)} appears twice with different values; "
                "remove one of them"
            )
    return row


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"it contains an integer with {len(text)} digits")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; the same key may appear twice only with the same value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise ValueError(
                    f"the key {show_value(key)} appears twice in one object with different values"
                )
    return found


def _check_yaml(events: Iterator[Any]) -> None:
    """Check nesting, size after replacing aliases, and keys, before any value is built."""
    import yaml

    sizes: dict[str, int] = {}
    open_nodes: list[_Node] = [_Node()]
    for event in events:
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            open_nodes[-1].add_key(None)
            open_nodes.append(_Node(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(open_nodes) > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
            continue
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            node = open_nodes.pop()
            size, anchor = node.size, node.anchor
        elif isinstance(event, yaml.ScalarEvent):
            open_nodes[-1].add_key(event.value)
            size, anchor = 1, event.anchor
        elif isinstance(event, yaml.AliasEvent):
            open_nodes[-1].add_key(None)
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands inside of its own value")
            size, anchor = sizes[event.anchor], None
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        open_nodes[-1].size += size
        if open_nodes[-1].size > MAX_NODES:
            raise ValueError(f"it contains more than {MAX_NODES:,} values")


class _Node:
    """A YAML list or mapping whose end has not been reached."""

    def __init__(self, anchor: str | None = None, mapping: bool = False) -> None:
        self.anchor = anchor
        self.size = 1
        self._keys: set[str] | None = set() if mapping else None
        self._children = 0

    def add_key(self, key: str | None) -> None:
        """Count a child; in a mapping, every second one is a value. Keys must be unique."""
        is_key = self._children % 2 == 0
        self._children += 1
        if self._keys is not None and is_key and key is not None:
            if key in self._keys:
                raise ValueError(f"the key {show_value(key)} appears twice; remove one of them")
            self._keys.add(key)

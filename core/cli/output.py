"""The output of a command, printed for a person or as JSON."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from visiongraft.errors import OptionError, escape_unprintable
from visiongraft.system.terminal import make_console

WIDE = 100_000


@dataclass
class Answer:
    """The output of one command.

    Attributes:
        values: The JSON object of ``--json``.
        parts: The text for a person: lines, and tables made by ``table``.
        exit_code: 0, or 1 if a check failed.
    """

    values: Mapping[str, Any]
    parts: Sequence[str | Table] = ()
    exit_code: int = 0

    def print(self, stdout: TextIO, as_json: bool) -> None:
        """Print the output; what cannot be printed or is not in the stream's encoding is escaped.

        Args:
            stdout: The stream to print to.
            as_json: Print one JSON object instead of text.
        """
        if as_json:
            print(_json_line(to_json(self.values), stdout), file=stdout, flush=True)
            return
        for part in self.parts:
            if isinstance(part, str):
                print_line(part, stdout)
            else:
                _print_table(part, stdout)


def print_line(text: str, stream: TextIO) -> None:
    """Print a text on one line; what cannot be printed or encoded is escaped.

    Args:
        text: The text, which may contain names from files and users.
        stream: The stream to print to.
    """
    print(_encodable(escape_unprintable(text), stream), file=stream)


def _json_line(value: Any, stdout: TextIO) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable() and _encodable(text, stdout) == text:
        return text
    escaped = (c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return "".join(c if _encodable(c, stdout) == c else json.dumps(c)[1:-1] for c in escaped)


def _encodable(text: str, stream: TextIO) -> str:
    """Escape what is not in the encoding of a stream, such as ASCII."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _print_table(part: Table, stdout: TextIO) -> None:
    console = make_console(stdout)
    if console.is_terminal:
        with console.capture() as shown:
            console.print(part)
        print(_encodable(shown.get(), stdout), end="", file=stdout)
        return
    # In a pipe nothing is wrapped or cut, and lines have no trailing spaces.
    lines = Console(file=io.StringIO(), width=WIDE)
    with lines.capture() as captured:
        lines.print(part)
    for line in captured.get().splitlines():
        print(_encodable(line.rstrip(), stdout), file=stdout)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Make a table of aligned columns.

    Args:
        columns: Headings.
        rows: One cell per column; text is printed without markup, and what cannot be printed is
            escaped.

    Returns:
        A table for ``Answer.parts``.
    """
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(escape_unprintable(cell)) for cell in row))
    return made


def to_json(value: Any) -> Any:
    """Convert the output of a command to JSON values.

    Args:
        value: Numbers, strings, paths, arrays, dataclasses, and containers of them.

    Returns:
        JSON values; numbers that are not finite become ``None``.

    Examples:
        >>> to_json({"size": (2, 3), "loss": float("nan")})
        {'size': [2, 3], 'loss': None}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return to_json(value.tolist())
    return str(value)


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_line(f"warning: {record.getMessage()}", sys.stderr)


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Print the warnings that are logged within this block to standard error, one line each."""
    log, handler = logging.getLogger("visiongraft"), _Warnings(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def reserved_stdout(reserve: bool) -> Iterator[TextIO]:
    """Reserve standard output for the output of the command.

    What libraries print there, also from C, goes to standard error within this block.

    Args:
        reserve: Whether to do so; otherwise nothing changes.

    Yields:
        The real standard output.
    """
    if not reserve:
        yield sys.stdout
        return
    real = sys.stdout
    if not (_is_descriptor(real, 1) and _is_descriptor(sys.stderr, 2)):
        with redirect_stdout(sys.stderr):
            yield real
        return
    real.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr), _like(real, saved) as kept:
            yield kept
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _like(stream: TextIO, descriptor: int) -> TextIO:
    return os.fdopen(descriptor, "w", encoding=stream.encoding, errors=stream.errors, closefd=False)


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False


def refuse_existing(out: Path) -> None:
    """Refuse to write over what is there, before anything is computed."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OptionError(f"{out} already exists; choose another folder for --out")

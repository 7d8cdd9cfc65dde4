"""Small tables of HTML for notebooks; everything from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from visiongraft.errors import escape_unprintable


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Write a table as notebooks show it.

    Args:
        columns: Headings.
        rows: One cell per column; floats are shortened, and ``None`` is an empty cell.
        caption: A line above it.

    Returns:
        HTML.

    Examples:
        >>> html_table(["name", "score"], [["<b>", 0.123456]])
        '<table><tr><th>name</th><th>score</th></tr><tr><td>&lt;b&gt;</td><td>0.1235</td></tr></table>'
    """
    head = "".join(f"<th>{_cell(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    above = f"<caption>{_cell(caption)}</caption>" if caption else ""
    return f"<table>{above}<tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return escape(escape_unprintable(text))

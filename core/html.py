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
    head = "".join(f"<th>{html_text(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{html_text(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    above = f"<caption>{html_text(caption)}</caption>" if caption else ""
    return f"<table>{above}<tr>{head}</tr>{body}</table>"


def html_figure(source: str, caption: str, kept_pixels: bool = False) -> str:
    """Write an image with a line below it.

    Args:
        source: The image as the URI of its data.
        caption: The line, which is escaped.
        kept_pixels: Whether browsers may not smooth the image, such as a mask.

    Returns:
        HTML.

    Examples:
        >>> html_figure("data:image/png;base64,", "<b>")
        '<figure><img src="data:image/png;base64," alt="&lt;b&gt;"><figcaption>&lt;b&gt;</figcaption></figure>'
    """
    text = html_text(caption)
    style = ' style="image-rendering: pixelated"' if kept_pixels else ""
    return f'<figure><img src="{escape(source)}" alt="{text}"{style}><figcaption>{text}</figcaption></figure>'


def html_text(value: object) -> str:
    """Escape a value; floats are shortened, and ``None`` is empty."""
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return escape(escape_unprintable(text))

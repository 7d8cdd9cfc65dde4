"""Consoles that print whatever the environment says about the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

USUAL_WIDTH = 80  # columns


def make_console(stream: TextIO, **options: Any) -> Console:
    """Make a console for a stream.

    Args:
        stream: The stream to print to.
        **options: Options of ``rich.console.Console``.

    Returns:
        A console at least one column wide: with ``COLUMNS=0``, as some tools set it, rich would
        print nothing at all.
    """
    from rich.console import Console

    console = Console(file=stream, **options)
    if console.width < 1:
        console.width = USUAL_WIDTH
    return console

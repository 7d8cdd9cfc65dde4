"""Commands in a terminal of 80 columns, for the scripts beside this one that take pictures of them."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COLUMNS, ROWS = 80, 100  # no command that is drawn prints more rows
# Fonts on a server, as pages ask none for anything, and the name of the library.
LEFT_OUT = re.compile(r"@font-face \{.*?\}\s*|\s*<!--.*?-->", re.DOTALL)
PROMPT = "$ "


def typed(command: str, until: Callable[[str], bool] | None = None) -> list[Text]:
    """Run a command of the shell in a terminal.

    Args:
        command: What a user types.
        until: Says of the text on the screen whether this is the moment to show; ``None`` for the end. The command
            is left to end by itself.

    Returns:
        The command, and the lines on the screen.

    Raises:
        RuntimeError: If the moment never came.
    """
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    shown: list[Text] | None = None
    main, other = pty.openpty()
    ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(
        ["bash", "-c", command], stdin=other, stdout=other, stderr=other, env=environment
    )
    os.close(other)
    while True:
        ready, _, _ = select.select([main], [], [], 0.5)
        if not ready and process.poll() is not None:
            break
        try:
            stream.feed(os.read(main, 1 << 16) if ready else b"")
        except OSError:  # how Linux says that the other end was closed
            break
        if shown is None and until is not None and until("\n".join(screen.display)):
            shown = lines_of(screen)
    process.wait()
    os.close(main)
    if until is None:
        shown = lines_of(screen)
    if shown is None:
        raise RuntimeError(f"{command}: never showed what was waited for:\n{screen.display}")
    return [Text(PROMPT, "bold green") + Text(command, "bold white"), *shown]


def lines_of(screen: pyte.Screen) -> list[Text]:
    """Return the lines on a screen with their colors, without the empty ones at its end."""
    lines = []
    for row in range(screen.lines):
        line = Text()
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            color = "" if cell.fg == "default" else cell.fg
            color = f"#{color}" if re.fullmatch("[0-9a-f]{6}", color) else color
            line.append(cell.data, f"{'bold ' if cell.bold else ''}{color}".strip() or None)
        line.rstrip()
        lines.append(line)
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def draw(name: str, title: str, *parts: list[Text]) -> None:
    """Write ``NAME.svg`` beside this file.

    Args:
        name: Of the file.
        title: On the frame of the window.
        parts: What ``typed`` returned, shown below each other.
    """
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(width=COLUMNS, record=True, file=nowhere, force_terminal=True)
        for i, lines in enumerate(parts):
            if i:
                console.print()
            for line in lines:
                console.print(line, overflow="fold", soft_wrap=False)
    text = LEFT_OUT.sub("", console.export_svg(title=title, unique_id=name))
    (HERE / f"{name}.svg").write_text(text, encoding="utf-8")

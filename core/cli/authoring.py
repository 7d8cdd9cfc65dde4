"""Commands for those who write plugins."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer


def new_plugin(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the task is called, such as ripeness.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; visiongraft-NAME if unset.")
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Write an installable plugin package with a task that already passes its tests."""
    from visiongraft.scaffold import new_plugin as write

    files = write(name, out)
    folder = files[0].parent
    lines = [str(file) for file in files]
    lines.append(f"next: cd {shlex.quote(str(folder))} && pip install -e '.[dev]' && pytest")
    return Answer({"folder": str(folder), "files": [str(file) for file in files]}, lines)

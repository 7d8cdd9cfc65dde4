"""The command ``triton``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer


def triton(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Exported file, such as m.onnx.")],
    repository: Annotated[
        Path, typer.Argument(metavar="REPO", help="Model repository; created if it does not exist.")
    ],
    as_json: Json = False,
) -> Answer:
    """Add an exported FILE to a model repository of Triton Inference Server."""
    from visiongraft.exporters.onnx.triton.repository import write_repository

    found = write_repository(file, repository)
    what = "is" if found.added else "was already"
    line = f"{found.path} {what} the latest version of model {found.model}"
    return Answer(asdict(found), [line])

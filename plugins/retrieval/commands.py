"""The command ``search``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json, TextEncoder
from visiongraft.cli.output import Answer, shown_warnings


def search(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Run or saved model folder of task retrieval.")
    ],
    images: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images.")],
    query: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    top: Annotated[int, typer.Option(min=1, help="The most images to list.")] = 10,
    text_encoder: TextEncoder = None,
    as_json: Json = False,
) -> Answer:
    """Find the images in FOLDER that are nearest to TEXT."""
    from visiongraft.errors import OptionError
    from visiongraft.model import load

    with shown_warnings():
        loaded = load(model, text_encoder=text_encoder)
        if "search" not in loaded.task.model_methods():
            raise OptionError(
                f"{model} is a model for task {loaded.task.name!r}; search needs one for task 'retrieval'"
            )
        found = loaded.search(images, query, top=top)
    lines = [f"{each.similarity:.3f}  {each.image}" for each in found]
    return Answer({"query": query, "found": [asdict(each) for each in found]}, lines)

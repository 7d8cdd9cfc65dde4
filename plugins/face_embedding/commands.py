"""The command ``align-faces``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer, refuse_existing
from visiongraft.errors import name_some

SHOWN = 3  # names of images in a line


def align_faces(
    images: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    detector: Annotated[
        str,
        typer.Option(
            metavar="NAME:STRING", help="What finds faces, such as mtcnn:FOLDER_OF_ITS_WEIGHTS."
        ),
    ],
    side: Annotated[int, typer.Option(min=16, help="Height and width of the results.")] = 112,
    as_json: Json = False,
) -> Answer:
    """Align the largest face of each image in FOLDER by five landmarks."""
    from visiongraft.plugins.face_embedding.alignment import align_folder

    refuse_existing(out)
    done = align_folder(images, out, detector, side)
    lines = [f"{done.written} aligned faces written to {out}"]
    for names, what in (
        (done.without_face, "without a face, not written"),
        (done.several_faces, "with several faces, of which the largest was taken"),
    ):
        if names:
            lines.append(f"{len(names)} {what}: {name_some(names, SHOWN)}")
    return Answer({"folder": str(out), **asdict(done)}, lines)

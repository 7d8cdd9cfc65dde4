"""The commands ``align-faces`` and ``match-rates``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import GroupedBy, Json
from visiongraft.cli.output import Answer, refuse_existing, shown_warnings, table
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


def match_rates(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run or saved model folder.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Images of other people.")],
    by: GroupedBy,
    threshold: Annotated[
        float | None,
        typer.Option(help="Similarity from which two images are one person; the model's if unset."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of bootstrap and permutations.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Measure false matches and false non-matches of a face model within each group of people."""
    from visiongraft.errors import OptionError
    from visiongraft.model import load

    with shown_warnings():
        loaded = load(model)
        if "match_rates" not in loaded.task.model_methods():
            raise OptionError(f"{model} is a model for task {loaded.task.name!r}, not of faces")
        found = loaded.match_rates(data, groups=by, threshold=threshold, seed=seed)
    return Answer(found.to_json(), [table(*found.table()), *found.statements()])

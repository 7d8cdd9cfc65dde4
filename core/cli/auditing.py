"""Commands on what a model tells about its images: ``audit`` and ``forget``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer, shown_warnings


def audit(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[
        str | None,
        typer.Option(help="Images that were not in training; the validation images if unset."),
    ] = None,
    shadows: Annotated[
        int, typer.Option(min=0, help="Number of shadow heads of LiRA; 0 leaves it out.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of shadow heads and intervals.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Attack the model of RUN: can its training images be told from others?"""
    from visiongraft.auditing.audit import audit as audit_run

    with shown_warnings():
        found = audit_run(run, data=data, shadows=shadows, seed=seed)
    counts = f"{found.members} training images against {found.others} others"
    return Answer(found.to_json(), [counts, *found.statements()])


def forget(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES...", help="Image files, folders, or digests.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new run.")],
    as_json: Json = False,
) -> Answer:
    """Train RUN again without IMAGES: the model that it would have been without them."""
    from visiongraft.auditing.forgetting import RECORD
    from visiongraft.auditing.forgetting import forget as forget_images
    from visiongraft.saving.files import read_json

    with shown_warnings():
        model = forget_images(run, images, out=out)
    record = read_json(out / RECORD)
    headline = model.task.headline
    line = (
        f"{len(record['images'])} images left out, {record['training_images']} are left; {headline} "
        f"{model.facts['metrics'][headline]:.4f}; model saved to {out / 'model'}. Delete {run}, what was exported "
        "from it, and shared features (visiongraft cache clear)"
    )
    return Answer(
        {**record, "model": str(out / "model"), "metrics": model.facts["metrics"]}, [line]
    )

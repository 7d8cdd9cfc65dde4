"""The command that compares models: ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import BatchSize, Json
from visiongraft.cli.output import Answer, shown_warnings, table


def compare(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODELS...", help="Run or saved model folders.")
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Labeled images to measure on; the validation images of the first run if unset."
        ),
    ] = None,
    batch_size: BatchSize = 32,
    as_json: Json = False,
) -> Answer:
    """Compare MODELS on the same images: settings, metrics, and which images they differ on."""
    from visiongraft.comparing.models import compare as compare_models

    with shown_warnings():
        found = compare_models(models, data=data, batch_size=batch_size)
    return Answer(found.to_json(), [table(*found.table()), *found.statements()])

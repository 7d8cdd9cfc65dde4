"""The command that compares models: ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import BatchSize, Json, MetricNames
from visiongraft.cli.output import Answer, shown_warnings, table
from visiongraft.saving.files import write_bytes


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
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .html file to write the comparison into, as one page."
        ),
    ] = None,
    batch_size: BatchSize = 32,
    metric: MetricNames = None,
    as_json: Json = False,
) -> Answer:
    """Compare MODELS on the same images: settings, metrics, and which images they differ on."""
    from visiongraft.comparing.models import compare as compare_models
    from visiongraft.pages.writing import check_page

    page = None if html is None else check_page(html)
    with shown_warnings():
        found = compare_models(models, data=data, batch_size=batch_size, metrics=metric)
    written = []
    if page is not None:
        write_bytes(page, found.html().encode())
        written.append(f"page written to {page}")
    return Answer(found.to_json(), [table(*found.table()), *found.statements(), *written])

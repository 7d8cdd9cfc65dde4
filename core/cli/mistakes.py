"""The command that looks for wrong labels: ``find-mistakes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from visiongraft.cli.options import Json, TaskOptions, check_suffix, refuse_input
from visiongraft.cli.output import Answer, shown_warnings, table
from visiongraft.cli.settings import takes_settings, with_task_options
from visiongraft.config import FEATURE_SETTINGS, settings_without
from visiongraft.saving.files import write_bytes


@takes_settings(without=(*settings_without(FEATURE_SETTINGS), "task_options"))
def find_mistakes(
    ctx: typer.Context,
    data: Annotated[
        str, typer.Argument(metavar="DATA|RUN", help="Dataset, or run folder for that of the run.")
    ],
    *,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Parts, each of which is judged by what has learned from the others; of boxes and masks a training "
            "for each.",
            show_default="5; of boxes and masks validation images alone",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .csv file for all labels, the most doubtful first."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .html file to write a page with the images into."),
    ] = None,
    task_options: TaskOptions = None,
    as_json: Json = False,
    **settings: Any,
) -> Answer:
    """Find labels of DATA that are likely wrong, and images that are nearly the same."""
    given = with_task_options(ctx, settings, task_options)
    if csv is not None:
        check_suffix("csv", csv, (".csv",))
        refuse_input("csv", csv, (data,))
    from visiongraft.mistakes.finding import find_mistakes as find
    from visiongraft.pages.writing import check_page

    page = None if html is None else check_page(html)
    with shown_warnings():
        found = find(data, folds=folds, **given)
    lines = list(found.statements())
    if csv is not None:
        write_bytes(csv, found.to_csv().encode())
        lines.append(f"all labels written to {csv}")
    if page is not None:
        write_bytes(page, found.html().encode())
        lines.append(f"page written to {page}")
    columns, rows = found.table()
    return Answer(found.to_json(), [*([table(columns, rows)] if rows else []), *lines])

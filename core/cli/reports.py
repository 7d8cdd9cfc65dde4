"""The command that writes the report of a run: ``report``."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import BatchSize, Json
from visiongraft.cli.output import Answer, shown_warnings


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The .html file to write.", show_default="report.html in RUN"
        ),
    ] = None,
    exported: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="An exported file whose certificate is shown; repeatable.",
            show_default="those in RUN",
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    umap: Annotated[
        bool, typer.Option("--umap", help="Make the map of the images by UMAP; takes longer.")
    ] = False,
    batch_size: BatchSize = 32,
    as_json: Json = False,
) -> Answer:
    """Write the report of RUN as one HTML page: curves, data, worst mistakes, a map of the images."""
    from visiongraft.reporting.writing import report as write_report

    with shown_warnings():
        page = write_report(
            run,
            out,
            exported=exported or None,
            projection="umap" if umap else "pca",
            batch_size=batch_size,
        )
    lines = [f"report written to {page}"]
    if open_page and not webbrowser.open(page.resolve().as_uri()):
        lines.append("warning: no browser was found to open it")
    return Answer({"path": str(page)}, lines)

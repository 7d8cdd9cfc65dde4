"""The program and its commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli import (
    assembling,
    auditing,
    authoring,
    averaging,
    caches,
    comparing,
    embedding,
    finding,
    listings,
    mistakes,
    models,
    reports,
    text,
    training,
)
from visiongraft.cli.extra_options import WithExtraOptions
from visiongraft.cli.other_names import Commands

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 success, 1 a check or proof failed, 2 invalid input, 3 a bug, "
    "130 interrupted.",
)


def _show_version(requested: bool) -> None:
    if requested:
        from visiongraft import __version__

        typer.echo(f"visiongraft {__version__}")
        raise typer.Exit


@app.callback()
def visiongraft(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    # These two stand here for the help only: `take_choice` has already removed them from argv.
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.py", help="Load a Python file as a plugin, in any command; repeatable."
        ),
    ] = None,
    no_plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Disable a plugin or all plugins of a distribution; repeatable."
        ),
    ] = None,
) -> None:
    """Put a task head on a pretrained vision backbone, fine-tune it, prove it, ship it as ONNX.

    With --json, every command prints one JSON object to standard output and nothing else.
    """


for command in (
    training.fit,
    finding.advise,
    finding.lr_find,
    mistakes.find_mistakes,
    assembling.assemble,
    models.evaluate,
    models.predict,
    embedding.embed,
    models.export,
    averaging.soup,
    averaging.wise_ft,
    text.zero_shot,
    text.write_classes,
    comparing.compare,
    auditing.audit,
    auditing.forget,
    auditing.fairness,
    reports.report,
    reports.explain,
    reports.probe_layers,
    training.demo,
    listings.tasks,
    listings.backbones,
    listings.schedules,
    listings.exporters,
    listings.readers,
    listings.losses,
    listings.adapters,
    listings.scorers,
    listings.text_encoders,
    listings.plugins,
    authoring.new_plugin,
    authoring.check_plugin,
):
    app.command(cls=WithExtraOptions if command is models.export else None)(command)

app.add_typer(caches.app, name="cache")

"""The commands and the words they take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli import authoring, listings, models, training
from visiongraft.cli.extra_options import HandsOn

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 a check or proof failed, 2 wrong input, 3 a bug.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from visiongraft import __version__

        typer.echo(f"visiongraft {__version__}")
        raise typer.Exit


@app.callback()
def visiongraft(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    # These two only explain themselves here: `choosing` has taken them from the words already.
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="Load a Python file as a plugin; anywhere, may be repeated."),
    ] = None,
    no_plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave a plugin out, by its name or its distribution's."),
    ] = None,
) -> None:
    """Graft a task head on a pretrained vision backbone, fine-tune it, prove it, ship it as ONNX.

    Every command takes --json and then prints one JSON object on standard output, nothing else.
    """


for command in (
    training.fit,
    models.evaluate,
    models.predict,
    models.export,
    training.demo,
    listings.tasks,
    listings.backbones,
    listings.schedules,
    listings.exporters,
    listings.readers,
    listings.losses,
    listings.plugins,
    authoring.new_plugin,
    authoring.check_plugin,
):
    app.command(cls=HandsOn if command is models.export else None)(command)

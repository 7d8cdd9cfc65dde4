"""Commands from exporters and plugins, found through the entry points of one group.

Each is a function like the built-in commands: typer reads its parameters, and it returns an
``Answer``. Its module should import little, since ``--help`` loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer
from visiongraft.errors import PluginError, type_and_message
from visiongraft.registry.isolation import check_import, exits_refused

GROUP = "visiongraft.commands"


def add_commands(app: typer.Typer) -> None:
    """Add all commands of the entry points, except those whose names are taken.

    Args:
        app: The program; its own commands cannot be replaced.
    """
    known = {command.name for command in app.registered_commands}
    known |= {c.callback.__name__.replace("_", "-") for c in app.registered_commands if c.callback}
    for point in sorted(entry_points(group=GROUP)):
        if point.name not in known:
            known.add(point.name)
            app.command(point.name)(_loaded(point))


def _loaded(point: EntryPoint) -> Callable[..., Answer]:
    try:
        check_import(point.module, point.dist.name if point.dist is not None else "")
        with exits_refused():
            command: Callable[..., Answer] = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a third-party module may raise anything
        return _broken(point, type_and_message(error))
    return command


def _broken(point: EntryPoint, cause: str) -> Callable[..., Answer]:
    def command(as_json: Json = False) -> Answer:
        raise PluginError(f"command {point.name!r} ({point.value}) could not be loaded: {cause}")

    command.__doc__ = f"Could not be loaded: {cause}"
    return command

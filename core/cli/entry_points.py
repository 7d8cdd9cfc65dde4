"""Commands from exporters and plugins, found through the entry points of one group.

Each is a function like the built-in commands: typer reads its parameters, and it returns an
``Answer``. Its module should import little, since ``--help`` loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer
from visiongraft.errors import PluginError
from visiongraft.registry.functions import Function, functions

GROUP = "visiongraft.commands"


@contextmanager
def added_commands(app: typer.Typer) -> Iterator[None]:
    """Add all commands of the entry points, except those whose names are taken, within a block.

    Args:
        app: The program; its own commands cannot be replaced.
    """
    own = list(app.registered_commands)
    names = {command.name for command in own}
    names |= {c.callback.__name__.replace("_", "-") for c in own if c.callback}
    names |= {group.name for group in app.registered_groups}
    for name, function in functions(GROUP).items():
        if name not in names:
            app.command(name)(_loaded(function))
    try:
        yield
    finally:
        app.registered_commands[:] = own


def _loaded(function: Function) -> Callable[..., Answer]:
    try:
        command: Callable[..., Answer] = function.load()
    except PluginError as error:
        return _broken(str(error))
    return command


def _broken(cause: str) -> Callable[..., Answer]:
    def command(as_json: Json = False) -> Answer:
        raise PluginError(cause)

    command.__doc__ = f"Cannot be used: {cause}"
    return command

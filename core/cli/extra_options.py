"""Options of a command that belong to a plugin, so that the command does not know them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from typer.core import TyperCommand

from visiongraft.errors import OptionError


class WithExtraOptions(TyperCommand):
    """A command with ``--set`` that treats any unknown ``--name value`` as ``--set name=value``.

    An exporter's options thus look like options of the command. The exporter refuses those that it
    does not have.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {word for parameter in self.get_params(ctx) for word in parameter.opts}
        return super().parse_args(ctx, list(as_settings(args, known)))


def as_settings(arguments: Sequence[str], known: Container[str]) -> Iterator[str]:
    """Rewrite options that a command does not know.

    Args:
        arguments: The arguments of the command.
        known: The options that it knows.

    Yields:
        The arguments, with ``--set name=value`` in place of unknown options.

    Raises:
        OptionError: An unknown option lacks its value.

    Examples:
        >>> list(as_settings(["run", "--max-batch", "8", "--data=x"], {"--data"}))
        ['run', '--set', 'max_batch=8', '--data=x']
    """
    remaining = iter(arguments)
    for word in remaining:
        option, equals, value = word.partition("=")
        if word == "--":
            yield from (word, *remaining)
        elif not option.startswith("--") or option in known:
            yield word
        else:
            if not equals:
                value = next(remaining, "")
            if not value or value.startswith("--"):
                raise OptionError(f"{option} requires a value, such as {option} NAME")
            name = option.removeprefix("--").replace("-", "_")  # as options of commands are spelled
            yield from ("--set", f"{name}={value}")

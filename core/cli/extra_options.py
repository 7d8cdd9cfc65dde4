"""Words of a command that it does not know itself, because they belong to a plugin."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from typer.core import TyperCommand

from visiongraft.errors import OptionError


class HandsOn(TyperCommand):
    """A command with ``--set`` that takes any other ``--name value`` for ``--set name=value``.

    So an exporter's option looks on the command line as if the command had it. Whether there is
    such an option, only the exporter can say.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {word for parameter in self.get_params(ctx) for word in parameter.opts}
        return super().parse_args(ctx, list(as_settings(args, known)))


def as_settings(words: Sequence[str], known: Container[str]) -> Iterator[str]:
    """Rewrite options that a command does not know.

    Args:
        words: The words after the command.
        known: The options that it knows.

    Yields:
        The words, with ``--set name=value`` in place of unknown options.

    Raises:
        OptionError: An unknown option lacks its value.

    Examples:
        >>> list(as_settings(["run", "--to", "shelf", "--data=x"], {"--data"}))
        ['run', '--set', 'to=shelf', '--data=x']
    """
    given = iter(words)
    for word in given:
        option, equals, value = word.partition("=")
        if word == "--":
            yield from (word, *given)
        elif not option.startswith("--") or option in known:
            yield word
        else:
            if not equals:
                value = next(given, "")
            if not value or value.startswith("--"):
                raise OptionError(f"{option} takes a value, as in {option} NAME")
            yield from ("--set", f"{option.removeprefix('--')}={value}")

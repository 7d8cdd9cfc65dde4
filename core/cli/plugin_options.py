"""``--plugin`` and ``--no-plugin``, which may stand anywhere on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from visiongraft.errors import OptionError

FILE = "--plugin"
BLOCK = "--no-plugin"


@dataclass(frozen=True)
class Chosen:
    """The plugins that the user loads and disables.

    Attributes:
        files: Python files to load as plugins.
        blocked: Plugins or distributions to disable.
    """

    files: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """The same as command-line arguments."""
        pairs = [(FILE, file) for file in self.files] + [(BLOCK, name) for name in self.blocked]
        return [word for pair in pairs for word in pair]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Use these plugins within a block."""
        if not self.arguments:
            yield
            return
        from visiongraft.registry.manager import PluginManager, using

        manager = PluginManager(blocked=self.blocked)
        for file in self.files:
            manager.register_file(Path(file))
        token = _current.set(self)
        try:
            with using(manager):
                yield
        finally:
            _current.reset(token)


_current: ContextVar[Chosen | None] = ContextVar("chosen", default=None)


def chosen_arguments() -> list[str]:
    """Return the plugin options of the current command, to repeat them in a hint."""
    chosen = _current.get()
    return [] if chosen is None else chosen.arguments


def choice_with(file: str) -> Chosen:
    """Return the choice of the current command with one more file to load."""
    chosen = _current.get() or Chosen()
    return chosen if file in chosen.files else replace(chosen, files=(*chosen.files, file))


def take_choice(arguments: Sequence[str]) -> tuple[Chosen, list[str]]:
    """Split the plugin options from the other arguments.

    Args:
        arguments: The arguments after ``visiongraft``.

    Returns:
        The choice of plugins, and the other arguments.

    Raises:
        OptionError: One of the options lacks its value.

    Example:
        >>> take_choice(["fit", "photos", "--plugin", "mine.py", "--out=run"])
        (Chosen(files=('mine.py',), blocked=()), ['fit', 'photos', '--out=run'])
    """
    found: dict[str, list[str]] = {FILE: [], BLOCK: []}
    rest: list[str] = []
    remaining = iter(arguments)
    for word in remaining:
        option, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *remaining]
        elif option not in found:
            rest.append(word)
        else:
            if not equals:
                value = next(remaining, "")
            if not value or value.startswith("--"):
                what = "a file such as my_task.py" if option == FILE else "the name of a plugin"
                raise OptionError(f"{option} requires {what}")
            found[option].append(value)
    return Chosen(tuple(found[FILE]), tuple(found[BLOCK])), rest

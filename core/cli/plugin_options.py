"""The words that choose plugins; they may stand anywhere on the command line."""

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
    """What a user said about plugins.

    Attributes:
        files: Python files to load as plugins.
        blocked: Plugins or distributions to leave out.
    """

    files: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The same as words of a command line."""
        pairs = [(FILE, file) for file in self.files] + [(BLOCK, name) for name in self.blocked]
        return [word for pair in pairs for word in pair]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Look up plugins accordingly for the length of a block."""
        if not self.words:
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


def chosen_words() -> list[str]:
    """Give the words on plugins of the present command, to repeat them in a hint."""
    chosen = _current.get()
    return [] if chosen is None else chosen.words


def choose_too(file: str) -> Chosen:
    """Give what the user said about plugins, with one more file to load."""
    chosen = _current.get() or Chosen()
    return chosen if file in chosen.files else replace(chosen, files=(*chosen.files, file))


def take_choice(words: Sequence[str]) -> tuple[Chosen, list[str]]:
    """Take the words on plugins out of a command line.

    Args:
        words: The words after ``visiongraft``.

    Returns:
        What they say, and the other words.

    Raises:
        OptionError: One of them lacks its value.

    Example:
        >>> take_choice(["fit", "photos", "--plugin", "mine.py", "--out=run"])
        (Chosen(files=('mine.py',), blocked=()), ['fit', 'photos', '--out=run'])
    """
    found: dict[str, list[str]] = {FILE: [], BLOCK: []}
    rest: list[str] = []
    given = iter(words)
    for word in given:
        option, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *given]
        elif option not in found:
            rest.append(word)
        else:
            if not equals:
                value = next(given, "")
            if not value or value.startswith("--"):
                what = "a file such as my_task.py" if option == FILE else "a plugin's name"
                raise OptionError(f"{option} takes {what}")
            found[option].append(value)
    return Chosen(tuple(found[FILE]), tuple(found[BLOCK])), rest

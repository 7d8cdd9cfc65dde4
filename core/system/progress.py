"""Progress of what takes long, where it is wanted: bars in a terminal, and now and then a line in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from visiongraft.system.durations import describe_duration
from visiongraft.system.terminal import make_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

FIRST_LINE = 10.0  # seconds that something takes before a line about it is written
NEXT_LINE = 60.0  # and between further lines
BAR = 24  # columns, so that a whole line fits into 80

Item = TypeVar("Item")


class Display:
    """Shows what is being done on a stream; bars vanish when they are full.

    Args:
        stream: The stream; ``None`` for standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self.open = 0

    @cached_property
    def console(self) -> Console:
        """The console, whose lines appear above the bars."""
        return make_console(self.stream or sys.stderr, highlight=False, soft_wrap=True)

    @cached_property
    def bars(self) -> Progress:
        """The bars; disabled where the stream is no terminal."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(BAR),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def begin(self, label: str, total: int | None, note: str = "") -> TaskID:
        """Add a bar.

        Args:
            label: What is being done.
            total: How many things there are; ``None`` if that is unknown.
            note: What else to show.
        """
        if not self.open:
            self.bars.start()
        self.open += 1
        return self.bars.add_task(label, total=total, note=note)

    def end(self, bar: TaskID) -> None:
        """Remove a bar."""
        self.bars.remove_task(bar)
        self.open -= 1
        if not self.open:
            self.bars.stop()

    @contextmanager
    def bar(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar within a block; without a terminal, lines about it if it takes long.

        Args:
            label: What is being done.
            total: How many things there are.

        Yields:
            A function that is told how many more of them are done.
        """
        bar, lines = self.begin(label, total), _Lines(self, label, total)

        def advance(count: int) -> None:
            self.bars.advance(bar, count)
            lines.advance(count)

        try:
            yield advance
        finally:
            self.end(bar)
        lines.end()


class _Lines:
    """The lines about one thing that takes long, where there is no terminal."""

    def __init__(self, display: Display, label: str, total: int | None) -> None:
        self.display, self.label, self.total = display, label, total
        self.done, self.began, self.next = 0, time.monotonic(), FIRST_LINE

    def advance(self, count: int) -> None:
        self.done += count
        took = time.monotonic() - self.began
        if self.display.console.is_terminal or took < self.next or self.done == self.total:
            return
        self.next = took + NEXT_LINE
        left = ""
        if self.total is not None and self.done:
            rest = took * (self.total - self.done) / self.done
            left = f" of {self.total}, about {describe_duration(rest)} left"
        self._write(f"{self.done}{left}")

    def end(self) -> None:
        took = time.monotonic() - self.began
        if not self.display.console.is_terminal and took >= FIRST_LINE:
            what = f"{self.done} in " if self.done else ""
            self._write(f"{what}{describe_duration(took)}")

    def _write(self, text: str) -> None:
        self.display.console.print(f"{self.label}: {text}", markup=False)


_shown: ContextVar[Display | None] = ContextVar("shown", default=None)


def current_display() -> Display | None:
    """Return the display that is being used, if there is one."""
    return _shown.get()


@contextmanager
def shown_progress(wanted: bool = True) -> Iterator[None]:
    """Show progress on standard error within a block.

    Args:
        wanted: Whether to do so; otherwise nothing changes. Within another such block nothing changes either.
    """
    if not wanted or _shown.get() is not None:
        yield
        return
    token = _shown.set(Display())
    try:
        yield
    finally:
        _shown.reset(token)


def track(
    items: Iterable[Item],
    label: str,
    total: int | None,
    count: Callable[[Item], int] | None = None,
) -> Iterator[Item]:
    """Yield items, and show how many are done, if progress is shown.

    Args:
        items: The items.
        label: What is being done with them, in at most 28 characters.
        total: How many there are in the end.
        count: For how many an item counts, as a batch does for its images; ``None`` for 1.

    Examples:
        >>> list(track([1, 2, 3], "counting", 3))
        [1, 2, 3]
    """
    display = _shown.get()
    if display is None:
        yield from items
        return
    with display.bar(label, total) as advance:
        for item in items:
            yield item
            advance(1 if count is None else count(item))


@contextmanager
def working(label: str) -> Iterator[None]:
    """Show that something is being done within a block whose length is not known."""
    display = _shown.get()
    if display is None:
        yield
        return
    with display.bar(label, None):
        yield


def images_in(batch: Any) -> int:
    """Return for how many images a batch counts."""
    return len(batch.indices)

"""Stop a run of an exported file that takes too long, since a graph may hold an endless loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from visiongraft.errors import OptionError, VisiongraftError


@contextmanager
def stopped_after(seconds: float | None, stop: Callable[[], object]) -> Iterator[threading.Event]:
    """Call a function if the block takes longer than a time.

    Args:
        seconds: The time; ``None`` for no limit.
        stop: Makes the block end, from another thread.

    Yields:
        What is set once the time is over.
    """
    over = threading.Event()
    if seconds is None:
        yield over
        return

    def fire() -> None:
        over.set()
        stop()

    timer = threading.Timer(seconds, fire)
    timer.daemon = True
    timer.start()
    try:
        yield over
    finally:
        timer.cancel()
        timer.join()


def check_time_limit(seconds: float | None) -> None:
    """Refuse what is no time limit.

    Raises:
        OptionError: It is not above 0.
    """
    if seconds is not None and not seconds > 0:
        raise OptionError(f"a time limit of {seconds} seconds is not above 0")


def too_slow(path: Path, seconds: float | None, images: str) -> VisiongraftError:
    """Make the error of a run that was stopped.

    Args:
        path: The file.
        seconds: The time limit.
        images: Describes what it was run on.
    """
    return VisiongraftError(
        f"{path} was stopped on {images} after {seconds:g} seconds; it may loop for ever, or needs a "
        "longer time limit"
    )

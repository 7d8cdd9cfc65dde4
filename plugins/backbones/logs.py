"""Libraries that configure the root logger of the process, which is the application's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def root_logger_kept(quiet: bool = False) -> Iterator[None]:
    """Restore level and handlers of the root logger after a block.

    Args:
        quiet: Whether to hide its warnings, such as that weights are random, as was asked for.
    """
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    if quiet:
        root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers

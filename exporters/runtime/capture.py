"""Catch what native libraries write to the process's output, to find the cause of a failure."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

from visiongraft.errors import COLOR_CODES


@contextlib.contextmanager
def captured_output() -> Iterator[Callable[[], str]]:
    """Redirect standard output and error, of Python and of native code, for a while.

    onnxruntime names a missing library on the file descriptor only. Threads that write meanwhile
    are captured too, so keep the block short.

    Yields:
        A function that returns, after the block, the text without color codes.
    """
    text: list[str] = []
    spoken = io.StringIO()
    with tempfile.TemporaryFile() as sink:
        _flush()
        kept = [os.dup(fd) for fd in (1, 2)]
        try:
            for fd in (1, 2):
                os.dup2(sink.fileno(), fd)
            with contextlib.redirect_stdout(spoken), contextlib.redirect_stderr(spoken):
                yield lambda: COLOR_CODES.sub("", "".join(text))
        finally:
            _flush()
            for fd, original in zip((1, 2), kept, strict=True):
                os.dup2(original, fd)
                os.close(original)
            sink.seek(0)
            text += [sink.read().decode(errors="replace"), spoken.getvalue()]


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Keep warnings and logs off the user's terminal."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError, AttributeError):  # closed, or None
            stream.flush()

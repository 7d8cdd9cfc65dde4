"""Ctrl-C: at once while modules are imported, afterwards as ``KeyboardInterrupt``."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130
LINE = "error: interrupted"

_work_started = False


def work_started() -> None:
    """Declare that from now on there is something to clean up after an interruption."""
    global _work_started
    _work_started = True


@contextmanager
def quick_interrupts(as_json: bool = False) -> Iterator[None]:
    """End this process with one line if Ctrl-C is pressed during an import within a block.

    Libraries that are being imported may swallow a ``KeyboardInterrupt``, or turn it into another
    error. It is raised as usual outside of imports, and after ``work_started``.

    Args:
        as_json: Whether to print a JSON object to standard output, too.
    """
    owner, stdout = os.getpid(), os.dup(1)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _work_started or os.getpid() != owner or not _imports(frame):
            raise KeyboardInterrupt
        os.write(2, f"{LINE}\n".encode())
        if as_json:
            answer = json.dumps({"error": "interrupted", "exit_code": EXIT_CODE})
            os.write(stdout, f"{answer}\n".encode())
        os._exit(EXIT_CODE)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(stdout)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False

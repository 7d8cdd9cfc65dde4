"""Tries something in a copy of this process: in milliseconds, where a new process takes seconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

POLL = 0.002  # seconds between two looks at the copy


def can_copy() -> bool:
    """Check whether a copy of this process can be relied on.

    It has none of the threads that may hold locks here, and frameworks of macOS end copies.
    """
    return sys.platform == "linux" and threading.active_count() == 1


def try_in_copy(function: Callable[[], object], patience: float) -> str:
    """Call a function in a copy of this process, whose output is discarded.

    Args:
        function: What to call.
        patience: Seconds after which the copy is ended.

    Returns:
        ``"returns"``, ``"raises"``, ``"interrupts"`` for a ``KeyboardInterrupt``, ``"signal NAME"`` or
        ``"exit code N"`` if the function ended the copy, and ``"unknown"`` if it took too long.

    Raises:
        OSError: There are no more processes.
    """
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 on native threads
            copy = os.fork()
        if copy == 0:
            _call_and_end(function, writing)
        status = _wait(copy, patience)
        os.set_blocking(reading, False)
        answer = b""
        with suppress(BlockingIOError):
            answer = os.read(reading, 100)
    finally:
        os.close(reading)
        os.close(writing)
    if answer:
        return answer.decode()
    if status is None:
        return "unknown"
    return describe_end(os.waitstatus_to_exitcode(status))


def describe_end(code: int) -> str:
    """Describe how a process ended, given its exit code; a negative one stands for a signal."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _wait(process: int, patience: float) -> int | None:
    """Return the exit status of a child process; ``None`` if it had to be ended."""
    deadline, ended, status = time.monotonic() + patience, 0, 0
    try:
        while not ended and time.monotonic() < deadline:
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended:
                time.sleep(POLL)
    finally:  # also if the user interrupts this process
        if not ended:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    return status if ended else None


def _call_and_end(function: Callable[[], object], writing: int) -> NoReturn:
    end = os._exit  # whatever the function replaces
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        try:
            function()
            answer = "returns"
        except KeyboardInterrupt:
            answer = "interrupts"
        except BaseException:
            answer = "raises"
        os.write(writing, answer.encode())
    finally:
        end(0)

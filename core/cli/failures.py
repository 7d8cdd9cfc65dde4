"""Convert errors to one line and an exit code."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from typing import NamedTuple

import typer

from visiongraft.cli.other_names import what_was_meant
from visiongraft.errors import VisiongraftError, one_line, place_of, type_and_message
from visiongraft.system.processes import as_lost_process

OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT}


class Interrupted(VisiongraftError):
    """The user interrupted a command that can be continued."""

    exit_code = 130


class Failure(NamedTuple):
    """How a command failed.

    Attributes:
        message: One line.
        exit_code: The exit code of the process.
    """

    message: str
    exit_code: int


def failure_of(error: Exception) -> Failure:
    """Describe an error in one line.

    Args:
        error: The error that a command raised.

    Returns:
        Message and exit code; for an unexpected error 3, and a message that names the file with the
        traceback.
    """
    error = as_lost_process(error) or error
    if isinstance(error, VisiongraftError):
        return Failure(one_line(error, None), error.exit_code)
    if isinstance(error, typer.TyperException):
        meant = what_was_meant(error)
        message = error.format_message() if meant is None else f"{error.message}; {meant}"
        return Failure(one_line(message, None).removesuffix("."), 2)
    if isinstance(error, typer.Abort):
        return Failure("interrupted", Interrupted.exit_code)
    if isinstance(error, OSError) and error.errno in OUT_OF_SPACE:
        path = f" for {error.filename}" if error.filename else ""
        return Failure(
            f"no space left on the device{path}; free some space or choose another --out folder", 2
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return Failure(f"{os.fspath(error.filename)}: {error.strerror}", 2)
    if _is_out_of_memory(error):
        return Failure("out of memory; try a smaller --batch-size, --size or --workers", 2)
    return Failure(_bug(error), 3)


def _is_out_of_memory(error: Exception) -> bool:
    """Check whether memory ran out: that of Python, of a device, or what PyTorch allocates itself."""
    named = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return named or isinstance(error, MemoryError)


def _bug(error: Exception) -> str:
    place = place_of(error)
    where = f"error in {place}" if place else "bug in visiongraft or a plugin"
    what = type_and_message(error)[:200]
    try:
        handle, path = tempfile.mkstemp(prefix="visiongraft-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
    except OSError:
        return f"{where}: {what}; set VISIONGRAFT_TRACEBACK=1 to see the traceback"
    return f"{where}: {what}; the traceback is in {path}"

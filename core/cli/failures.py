"""Turns whatever went wrong into one line and an exit code."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from typing import NamedTuple

import typer

from visiongraft.errors import VisiongraftError, one_line, place_of, type_and_message

OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT}


class Interrupted(VisiongraftError):
    """The user stopped a command that can be continued."""

    exit_code = 130


class Failure(NamedTuple):
    """What the command line says when it fails.

    Attributes:
        message: One line.
        exit_code: What the process exits with.
    """

    message: str
    exit_code: int


def failure_of(error: Exception) -> Failure:
    """Say in one line what went wrong.

    Args:
        error: What a command raised.

    Returns:
        Message and exit code; 3 and a note on where the traceback is for an unforeseen error.
    """
    if isinstance(error, VisiongraftError):
        return Failure(one_line(error, None), error.exit_code)
    if isinstance(error, typer.TyperException):
        return Failure(one_line(error.format_message(), None).removesuffix("."), 2)
    if isinstance(error, typer.Abort):
        return Failure("interrupted", Interrupted.exit_code)
    if isinstance(error, OSError) and error.errno in OUT_OF_SPACE:
        place = f" for {error.filename}" if error.filename else ""
        return Failure(f"no space left{place}; free some or choose another --out folder", 2)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return Failure(f"{os.fspath(error.filename)}: {error.strerror}", 2)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure("out of memory; try a smaller --batch-size, --size or --workers", 2)
    return Failure(_bug(error), 3)


def _bug(error: Exception) -> str:
    what = type_and_message(error)[:200]
    try:
        handle, path = tempfile.mkstemp(prefix="visiongraft-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
    except OSError:
        path = "nowhere, as no file could be written; VISIONGRAFT_TRACEBACK=1 shows it"
    place = place_of(error)
    where = f"an error in {place}" if place else "this is a bug in visiongraft or a plugin"
    return f"{where}: {what}; the traceback is in {path}"

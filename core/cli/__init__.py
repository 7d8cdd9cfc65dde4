"""The ``visiongraft`` command.

Nothing here imports torch or looks for plugins before a command needs it, so that ``--help``
answers at once. Commands return an ``Answer``; this module prints it and turns every error into one
line and an exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from visiongraft.cli.app import app
from visiongraft.cli.entry_points import add_found
from visiongraft.cli.failures import Failure, failure_of
from visiongraft.cli.output import Answer, reserved_stdout
from visiongraft.cli.plugin_options import take_choice

__all__ = ["main"]

TRACEBACK_VARIABLE = "VISIONGRAFT_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``visiongraft``; those of the process if ``None``.

    Returns:
        0 if all went well, 1 if a check or a proof failed, 2 if the input was wrong, 3 after a bug
        in visiongraft, 130 if the user interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    as_json = "--json" in words
    with reserved_stdout(as_json) as stdout:
        try:
            chosen, rest = take_choice(words)
            add_found(app)
            with chosen.used():
                result = app(rest or ["--help"], standalone_mode=False, prog_name="visiongraft")
        except Exception as error:
            if os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0"):
                sys.excepthook(type(error), error, error.__traceback__)
            failure = failure_of(error)
        else:
            if isinstance(result, Answer):
                if _speaks():
                    _print(result, stdout, as_json)
                return result.exit_code
            if not result:
                return 0
            failure = Failure("interrupted", int(result))
        print(f"error: {failure.message}", file=sys.stderr)
        if as_json:
            values = {"error": failure.message, "exit_code": failure.exit_code}
            _print(Answer(values), stdout, as_json)
        return failure.exit_code


def _print(answer: Answer, stdout: TextIO, as_json: bool) -> None:
    try:
        answer.print(stdout, as_json)
        stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


def _speaks() -> bool:
    """Say whether this process answers; of several that train together only the first does."""
    return os.environ.get("RANK", "0") == "0"

"""The ``visiongraft`` command.

Nothing here imports torch or searches for plugins before a command needs it, so that ``--help`` is
fast. Commands return an ``Answer``; this module prints it, and turns every error into one line and
an exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from visiongraft.cli.app import app
from visiongraft.cli.entry_points import added_commands
from visiongraft.cli.failures import Failure, failure_of
from visiongraft.cli.output import Answer, print_line, reserved_stdout
from visiongraft.cli.plugin_options import take_choice
from visiongraft.registry.disabled import disabling
from visiongraft.system.interrupts import EXIT_CODE
from visiongraft.system.progress import shown_progress

__all__ = ["main"]

TRACEBACK_VARIABLE = "VISIONGRAFT_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after ``visiongraft``; ``None`` for those of the process.

    Returns:
        The exit code: 0 for success, 1 if a check or proof failed, 2 for invalid input, 3 for a bug,
        130 if the user interrupted the command.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    as_json = "--json" in arguments
    with reserved_stdout(as_json) as stdout:
        try:
            chosen, rest = take_choice(arguments)
            with (
                disabling(chosen.blocked),
                added_commands(app),
                chosen.used(),
                shown_progress(_is_first_process()),
            ):
                result = app(rest or ["--help"], standalone_mode=False, prog_name="visiongraft")
        except Exception as error:
            if os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0"):
                sys.excepthook(type(error), error, error.__traceback__)
            failure = failure_of(error)
        except KeyboardInterrupt:
            failure = Failure("interrupted", EXIT_CODE)
        else:
            if isinstance(result, Answer):
                if _is_first_process():
                    _print(result, stdout, as_json)
                return result.exit_code
            if not result:
                return 0
            failure = Failure("interrupted", int(result))
        print_line(f"error: {failure.message}", sys.stderr)
        if as_json:
            values = {"error": failure.message, "exit_code": failure.exit_code}
            _print(Answer(values), stdout, as_json)
        return failure.exit_code


def _print(answer: Answer, stdout: TextIO, as_json: bool) -> None:
    try:
        answer.print(stdout, as_json)
        stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


def _is_first_process() -> bool:
    """Check whether this process prints; in distributed training only the first one does."""
    return os.environ.get("RANK", "0") == "0"

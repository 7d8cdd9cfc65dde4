"""Every error a user can meet, each one line long: the thing, the location and the remedy."""

from __future__ import annotations

import difflib
import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

COLOR_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
MOST_NOTICED = 5  # warnings in an error
LONGEST_NAME = 300  # in a message; no file system has longer ones
_OURS = Path(__file__).resolve().parent
_PYTHONS = Path(sysconfig.get_path("stdlib")).resolve()


class VisiongraftError(Exception):
    """Base of all errors raised on purpose; the command line prints it as one line.

    Attributes:
        exit_code: What the command line exits with: 2 for wrong input, 1 for a failed proof.
    """

    exit_code = 2


class OptionError(VisiongraftError):
    """An option is unknown, has the wrong type or an impossible value."""


class DataError(VisiongraftError):
    """Data is missing, unreadable or does not fit the task."""


class BackboneError(VisiongraftError):
    """A backbone is unknown or does not support what was requested."""


class WeightsError(VisiongraftError):
    """A weights file is missing, unreadable or does not fit the model."""


class ScheduleError(VisiongraftError):
    """A schedule yields a phase that the backbone cannot run."""


class PluginError(VisiongraftError):
    """A plugin is missing, broken, or clashes with another one."""


class TrainingError(VisiongraftError):
    """Training cannot start or go on, such as when the loss is not finite."""


class CheckpointError(VisiongraftError):
    """A run cannot be continued from the contents of its folder."""


class ArtifactError(VisiongraftError):
    """A saved model folder is missing, damaged or of an unknown version."""


class ReplayError(VisiongraftError):
    """Replay was requested where it is impossible or would exceed its budget."""


class ReceiptError(VisiongraftError):
    """Something that was frozen has changed."""

    exit_code = 1


class ExportError(VisiongraftError):
    """An exported file could not be made, or did not agree with PyTorch."""

    exit_code = 1


class RuntimeProviderError(VisiongraftError):
    """The requested execution provider is not the one that is used."""

    exit_code = 1


def near_matches(name: str, known: Iterable[str]) -> str:
    """Return suggestions for a misspelled name, as the end of an error message.

    Args:
        name: What the user wrote.
        known: Every name that exists.

    Returns:
        ``"; did you mean 'a' or 'b'?"``, or the whole list if nothing is near and it is short,
        or an empty string.

    Examples:
        >>> near_matches("lpft", ["lp_ft", "full"])
        "; did you mean 'lp_ft'?"
        >>> near_matches("x", ["lp_ft", "full"])
        '; available: full, lp_ft'
    """
    names = sorted(set(known))
    folded = {n.lower(): n for n in names}
    near = [folded[n] for n in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)]
    # Where one name is nearly right, others that merely share a prefix would only distract.
    near = [n for n in near if _likeness(name, n) > _likeness(name, near[0]) - 0.15]
    near += [n for n in names if n.rsplit("/", 1)[-1] == name and n not in near]
    if near:
        return "; did you mean " + " or ".join(shorten(repr(n)) for n in near[:3]) + "?"
    return f"; available: {', '.join(map(shorten, names))}" if 0 < len(names) <= 20 else ""


@contextmanager
def noticed(warnings: Sequence[str]) -> Iterator[None]:
    """Add to a ``DataError`` raised inside what was noticed before: it may be the cause.

    Args:
        warnings: One line for each thing that was skipped or assumed.

    Yields:
        Nothing.

    Raises:
        DataError: The error, with the first lines of the warnings.
    """
    try:
        yield
    except DataError as error:
        if not warnings:
            raise
        lines = "; ".join(shorten(line) for line in warnings[:MOST_NOTICED])
        more = len(warnings) - MOST_NOTICED
        rest = f"; and {more} more warnings" if more > 0 else ""
        raise DataError(f"{error} (noticed before: {lines}{rest})") from error


def name_some(names: Iterable[str], shown: int = 3) -> str:
    r"""Name the first few of many, for messages; very long names are shortened.

    Args:
        names: All of them.
        shown: How many to name.

    Returns:
        A single line, with unprintable characters escaped.

    Examples:
        >>> name_some(["a", "b", "c", "d", "e"]), name_some(["a\nb"])
        ('a, b, c and 2 more', 'a\\nb')
    """
    all_names = list(names)
    more = len(all_names) - shown
    return ", ".join(map(shorten, all_names[:shown])) + (f" and {more} more" if more > 0 else "")


def shorten(text: str) -> str:
    """Shorten a name or line that is too long for a message, in its middle.

    Args:
        text: A text from a file's name, a file or a user.

    Returns:
        At most 300 characters, with unprintable characters escaped.

    Examples:
        >>> shorten("cat"), len(shorten("x" * 5000)), shorten("x" * 5000)[146:152]
        ('cat', 300, 'xxx...')
    """
    line = escape_unprintable(text)
    if len(line) <= LONGEST_NAME:
        return line
    half = (LONGEST_NAME - 3) // 2
    return f"{line[: LONGEST_NAME - 3 - half]}...{line[-half:]}"


def escape_unprintable(text: str) -> str:
    r"""Escape what would change a terminal's state or lines, or cannot be encoded as UTF-8.

    Args:
        text: A text from a file's name, a file or a user.

    Returns:
        The text, with control and other unprintable characters as Python writes them.

    Examples:
        >>> escape_unprintable("a\x1b[31m\nb"), escape_unprintable("gr\u00fcn") == "gr\u00fcn"
        ('a\\x1b[31m\\nb', True)
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(message: object, limit: int | None = 300) -> str:
    r"""Return a text or an error's message as part of a message of one line.

    Args:
        message: A text from a library or a user, or an exception.
        limit: Maximum number of characters; ``None`` keeps all.

    Returns:
        The text without color codes, its line breaks replaced by spaces, other control characters
        escaped, cut off if it is longer than ``limit``; the name of the exception's class if it has no message.

    Examples:
        >>> one_line("bad\n  \x1b[31mshape\x1b[0m"), one_line("abcdefgh", 6), one_line(KeyError())
        ('bad shape', 'abc...', 'KeyError')
    """
    line = escape_unprintable(" ".join(COLOR_CODES.sub("", _text(message)).split()))
    if not line and isinstance(message, BaseException):
        line = type(message).__name__
    return line if limit is None or len(line) <= limit else line[: limit - 3] + "..."


def type_and_message(error: BaseException) -> str:
    """Return an error's class and message as one line.

    Examples:
        >>> type_and_message(ValueError("bad shape"))
        'ValueError: bad shape'
    """
    return f"{type(error).__name__}: {one_line(_text(error))}"


def _text(message: object) -> str:
    try:
        return str(message)
    except Exception as error:  # of a plugin's exception whose __str__ fails
        return f"its message cannot be shown ({type(error).__name__})"


def place_of(error: BaseException) -> str:
    """Name the innermost line of a user's or a plugin's own code that an error went through.

    Args:
        error: What was raised.

    Returns:
        File name and line such as ``"my_task.py:41"``; empty if only this package's and installed
        libraries' code was involved.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        library = "site-packages" in path.parts or "<" in frame.filename
        if not library and not {_OURS, _PYTHONS}.intersection(path.resolve().parents):
            return f"{path.name}:{frame.lineno}"
    return ""


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()

"""Checks, their failures, and how several of them are run."""

from __future__ import annotations

import time
import unittest
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from visiongraft.errors import VisiongraftError, one_line, place_of
from visiongraft.seeds import seeded

Subject = TypeVar("Subject")

NO_ERROR = "no error"
LONGEST = 400  # characters of each part of a message


class Fault(Exception):
    """A violation found by a check; ``Check`` converts it to a ``CheckError``.

    Args:
        tried: What was done.
        got: The result.
        expected: The expected result.
        see: The object whose documentation states the rule, such as ``"task.Task.decode"``; the
            check's own if ``None``.
    """

    def __init__(self, tried: str, got: str, expected: str, see: str | None = None) -> None:
        super().__init__(f"{tried}: got {got}, expected {expected}")
        parts = (one_line(part, LONGEST) for part in (tried, got, expected))
        self.tried, self.got, self.expected = parts
        self.see = see


class CheckError(VisiongraftError):
    """A plugin violates its contract.

    Attributes:
        check: Name of the check.
        tried: What was done.
        got: The result.
        expected: The expected result.
        see: The object whose documentation states the contract, for ``pydoc``.
    """

    exit_code = 1

    def __init__(self, check: str, fault: Fault, see: str) -> None:
        self.check, self.tried = check, fault.tried
        self.got, self.expected = fault.got, fault.expected
        self.see = f"visiongraft.{fault.see or see}"
        super().__init__(
            f"{check}: {self.tried}; got {self.got}; expected {self.expected}; "
            f"read more: python -m pydoc {self.see}"
        )


class NotTried(unittest.SkipTest):
    """A check does not apply to this subject; pytest reports it as skipped, with the reason."""


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One check of a plugin.

    Attributes:
        name: Its name, a short sentence.
        says: What holds if it passes.
        see: The object whose documentation states the contract.
        run: Performs the check.
        prepare: Converts the user's argument to that of ``run``.
    """

    name: str
    says: str
    see: str
    run: Callable[[Subject], None]
    prepare: Callable[[Any], Subject]

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, subject: Any) -> None:
        """Run the check.

        Args:
            subject: What to check, or a trial of it, which several checks share.

        Raises:
            CheckError: The check failed.
            NotTried: The check does not apply.
        """
        try:
            says = self.says[:1].lower() + self.says[1:].rstrip(".")
            with seeded(0, self.name), trying(says):
                self.run(self.prepare(subject))
        except Fault as fault:
            raise CheckError(self.name, fault, self.see) from fault.__cause__


@dataclass(frozen=True)
class Result:
    """The result of one check.

    Attributes:
        subject: What was checked, such as ``"task regression"``.
        check: Name of the check.
        outcome: ``"passed"``, ``"failed"`` or ``"not tried"``.
        message: Why it failed or was not tried; empty if it passed.
        seconds: How long it took.
    """

    subject: str
    check: str
    outcome: str
    message: str
    seconds: float


class Checks(list[Check[Subject]]):
    """The checks of one subject, in the order of their definition.

    Calling it with the object whose documentation states a contract, ``@checks(see)``, makes a
    decorator that converts a function to a ``Check`` and adds it; the first line of the function's
    docstring describes it.

    Args:
        prepare: Converts the user's argument to that of the checks.
    """

    def __init__(self, prepare: Callable[[Any], Subject]) -> None:
        super().__init__()
        self.prepare = prepare

    def __call__(self, see: str) -> Callable[[Callable[[Subject], None]], Check[Subject]]:
        def decorate(run: Callable[[Subject], None]) -> Check[Subject]:
            says = (run.__doc__ or run.__name__).strip().partition("\n")[0]
            self.append(Check(run.__name__, says, see, run, self.prepare))
            return self[-1]

        return decorate


@contextmanager
def trying(what: str, expected: str = NO_ERROR, see: str | None = None) -> Iterator[None]:
    """Convert any exception of a block to a fault that states what was tried.

    Args:
        what: What the block does.
        expected: The expected result, instead of an error.
        see: See ``Fault``.
    """
    try:
        yield
    except (Fault, NotTried, KeyboardInterrupt):
        raise
    except VisiongraftError as error:
        raise Fault(what, str(error), expected, see) from error
    except (Exception, SystemExit) as error:  # third-party plugins may raise anything
        place = place_of(error)
        where = f" at {place}" if place else ""
        got = f"{type(error).__name__}{where}: {error}"
        raise Fault(what, got, expected, see) from error


def expect(holds: bool, tried: str, got: object, expected: str, see: str | None = None) -> None:
    """Raise a fault unless a condition holds.

    Args:
        holds: The condition.
        tried: What was done.
        got: The result.
        expected: The expected result.
        see: See ``Fault``.
    """
    if not holds:
        raise Fault(tried, str(got), expected, see)


@contextmanager
def refusing(
    kind: type[VisiongraftError], tried: str, expected: str, required: bool = True
) -> Iterator[None]:
    """Raise a fault unless a block raises an error of the right class with a one-line message.

    Args:
        kind: The class.
        tried: What the block does.
        expected: The error, in words.
        required: Whether the block must raise it; otherwise it may also succeed.
    """
    try:
        with trying(tried, expected):
            yield
    except Fault as fault:
        if not isinstance(fault.__cause__, kind):
            raise
        text = str(fault.__cause__)
        expect(bool(text.strip()) and "\n" not in text, tried, repr(text), "a one-line message")
        return
    expect(not required, tried, NO_ERROR, expected)


def require(trial: Any, checks: Iterable[Check[Any]]) -> None:
    """Run several checks, and stop at the first that fails.

    Args:
        trial: What is checked.
        checks: The checks; those that do not apply are skipped.

    Raises:
        CheckError: One failed.
    """
    for check in checks:
        with suppress(NotTried):
            check(trial)


def run_all(subject: str, item: Any, checks: Iterable[Check[Any]]) -> Iterator[Result]:
    """Run several checks, regardless of their results.

    Args:
        subject: What is checked, for messages.
        item: What is checked, or a trial of it.
        checks: The checks.

    Yields:
        The result of each check, as soon as it is known.
    """
    for check in checks:
        start = time.monotonic()
        outcome, message = "passed", ""
        try:
            check(item)
        except NotTried as reason:
            outcome, message = "not tried", one_line(reason, LONGEST)
        except CheckError as error:
            outcome, message = "failed", str(error)
        yield Result(subject, check.name, outcome, message, round(time.monotonic() - start, 2))

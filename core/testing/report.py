"""What a check is, how it fails, and how several of them are run."""

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
    """What a check found; ``Check`` turns it into a ``CheckError``.

    Args:
        tried: What was done.
        got: What came out.
        expected: What should have.
        see: The part of visiongraft that says so, such as ``"task.Task.decode"``; the check's
            own if ``None``.
    """

    def __init__(self, tried: str, got: str, expected: str, see: str | None = None) -> None:
        super().__init__(f"{tried}: got {got}, expected {expected}")
        parts = (one_line(part, LONGEST) for part in (tried, got, expected))
        self.tried, self.got, self.expected = parts
        self.see = see


class CheckError(VisiongraftError):
    """A plugin does not keep its contract.

    Attributes:
        check: Name of the check.
        tried: What was done.
        got: What came out.
        expected: What should have.
        see: What ``pydoc`` shows the contract of.
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
    """A check cannot be made of this subject; pytest reports it as skipped, with the reason."""


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One thing that is tried on a plugin.

    Attributes:
        name: Its name, a short sentence.
        says: What holds if it passes.
        see: The part of visiongraft whose documentation it follows.
        run: Tries it.
        prepare: Makes what ``run`` takes of what the user gives.
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
        """Try it.

        Args:
            subject: What to check, or a trial of it, which several checks share.

        Raises:
            CheckError: It does not hold.
            NotTried: It cannot be tried.
        """
        try:
            says = self.says[:1].lower() + self.says[1:].rstrip(".")
            with seeded(0, self.name), trying(says):
                self.run(self.prepare(subject))
        except Fault as fault:
            raise CheckError(self.name, fault, self.see) from fault.__cause__


@dataclass(frozen=True)
class Result:
    """What came out of one check.

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


def checks_of(
    prepare: Callable[[Any], Subject],
) -> Callable[[str], Callable[[Callable[[Subject], None]], Check[Subject]]]:
    """Make a decorator for the checks of one kind of plugin.

    Args:
        prepare: Makes what the checks take of what the user gives.

    Returns:
        ``check(see)``, which makes a ``Check`` of a function; the first line of its documentation
        says what holds.
    """

    def check(see: str) -> Callable[[Callable[[Subject], None]], Check[Subject]]:
        def decorate(run: Callable[[Subject], None]) -> Check[Subject]:
            says = (run.__doc__ or run.__name__).strip().partition("\n")[0]
            return Check(run.__name__, says, see, run, prepare)

        return decorate

    return check


@contextmanager
def trying(what: str, expected: str = NO_ERROR, see: str | None = None) -> Iterator[None]:
    """Turn whatever a block raises into a fault that says what was being tried.

    Args:
        what: What the block does.
        expected: What should come out instead of an error.
        see: See ``Fault``.
    """
    try:
        yield
    except (Fault, NotTried, KeyboardInterrupt):
        raise
    except VisiongraftError as error:
        raise Fault(what, str(error), expected, see) from error
    except (Exception, SystemExit) as error:  # a third-party plugin may raise any error
        place = place_of(error)
        where = f" at {place}" if place else ""
        got = f"{type(error).__name__}{where}: {error}"
        raise Fault(what, got, expected, see) from error


def expect(holds: bool, tried: str, got: object, expected: str, see: str | None = None) -> None:
    """Raise a fault unless something holds.

    Args:
        holds: Whether it does.
        tried: What was done.
        got: What came out.
        expected: What should have.
        see: See ``Fault``.
    """
    if not holds:
        raise Fault(tried, str(got), expected, see)


def require(trial: Any, checks: Iterable[Check[Any]]) -> None:
    """Make several checks, and stop at the first that fails.

    Args:
        trial: What is checked.
        checks: The checks; those that cannot be tried are passed over.

    Raises:
        CheckError: One failed.
    """
    for check in checks:
        with suppress(NotTried):
            check(trial)


def run_all(subject: str, item: Any, checks: Iterable[Check[Any]]) -> Iterator[Result]:
    """Make several checks, whatever comes out of each.

    Args:
        subject: What is checked, in words.
        item: What is checked, or a trial of it.
        checks: The checks.

    Yields:
        One result each, as it comes.
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

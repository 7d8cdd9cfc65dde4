"""How a check fails: one line with what was tried, the result, what was expected, and where to read more."""

from __future__ import annotations

import pydoc
import re
import unittest
from pathlib import Path
from typing import Any

import pytest
import torch

import visiongraft.testing
from visiongraft.errors import DataError
from visiongraft.testing import (
    ADAPTER_CHECKS,
    BACKBONE_CHECKS,
    EXPORTER_CHECKS,
    READER_CHECKS,
    SCHEDULE_CHECKS,
    SCORER_CHECKS,
    TASK_CHECKS,
    TRANSFER_LOSS_CHECKS,
    Check,
    CheckError,
    NotTried,
    run_all,
)
from visiongraft.testing.plugins import CALLBACK_CHECKS, RECORD_CHECKS
from visiongraft.testing.report import Checks, expect, require, trying
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.tasks.trial import TaskTrial

ALL = (
    *TASK_CHECKS,
    *ADAPTER_CHECKS,
    *BACKBONE_CHECKS,
    *SCHEDULE_CHECKS,
    *SCORER_CHECKS,
    *EXPORTER_CHECKS,
    *READER_CHECKS,
    *TRANSFER_LOSS_CHECKS,
    *RECORD_CHECKS,
    *CALLBACK_CHECKS,
)
check = Checks(lambda given: given)


@check("task.Task.decode")
def is_even(number: int) -> None:
    """The number is even."""
    expect(number % 2 == 0, "to halve it", number, "an even\nnumber")


@check("task.Task.decode")
def divides(number: int) -> None:
    """It divides twelve."""
    with trying("to divide 12 by it", "a quotient", see="task.Task.read"):
        if number == 3:
            raise DataError("three is\nrefused")
        if number == 4:
            raise NotTried("four takes too long")
        12 // number


@check("task.Task.decode")
def is_counted(number: int) -> None:
    """Counting works."""
    [1][number]


def test_a_failure_is_described_in_one_line() -> None:
    with pytest.raises(CheckError) as caught:
        is_even(3)
    error = caught.value
    assert str(error) == (
        "is_even: to halve it; got 3; expected an even number; "
        "read more: python -m pydoc visiongraft.task.Task.decode"
    )
    assert (error.check, error.tried, error.got) == ("is_even", "to halve it", "3")
    assert error.exit_code == 1


def test_what_a_plugin_raises_is_named_with_its_location() -> None:
    with pytest.raises(CheckError, match=r"12 by it; got ZeroDivisionError at test_report\.py:\d+"):
        divides(0)
    with pytest.raises(CheckError, match=r"counting works; got IndexError at test_report\.py:\d+"):
        is_counted(5)


def test_errors_on_purpose_speak_for_themselves() -> None:
    with pytest.raises(
        CheckError, match=r"got three is refused; expected a quotient; .*Task.read$"
    ):
        divides(3)


def test_what_cannot_be_tried_is_a_skipped_test() -> None:
    assert issubclass(NotTried, unittest.SkipTest)
    with pytest.raises(NotTried, match="four takes too long"):
        divides(4)


def test_every_check_is_made_whatever_the_others_find() -> None:
    results = list(run_all("number 4", 4, (is_even, divides, is_counted)))
    assert [r.outcome for r in results] == ["passed", "not tried", "failed"]
    assert {r.subject for r in results} == {"number 4"}
    assert "IndexError" in results[2].message


def test_all_at_once_stops_at_the_first_failure_and_passes_over_what_cannot_be_tried() -> None:
    require(4, (is_even, divides))
    with pytest.raises(CheckError, match=r"^is_counted"):
        require(4, (divides, is_counted))


def test_a_check_leaves_randomness_as_it_was_and_is_itself_repeatable() -> None:
    drawn = []

    @check("task.Task")
    def draws(_: Any) -> None:
        """It draws."""
        drawn.append(float(torch.rand(())))

    state = torch.get_rng_state()
    draws(None)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    draws(None)
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.name)
def test_every_check_describes_what_holds_and_where_to_read_more(check: Check[Any]) -> None:
    assert check.says.endswith(".")
    assert len(check.says) > 20
    assert pydoc.locate(f"visiongraft.{check.see}") is not None


def test_every_reference_of_a_failure_exists() -> None:
    folder = Path(visiongraft.testing.__file__).parent
    named = set()
    for path in folder.rglob("*.py"):
        named |= set(re.findall(r'"([a-z_.]+\.[A-Z]\w+(?:\.\w+)*|task\.\w+)"', path.read_text()))
    assert "task.Task.decode" in named
    assert "data.samples.Samples.load" in named
    missing = [name for name in named if pydoc.locate(f"visiongraft.{name}") is None]
    assert missing == []


@pytest.mark.parametrize(
    "checks", [TASK_CHECKS, BACKBONE_CHECKS, SCHEDULE_CHECKS, EXPORTER_CHECKS, READER_CHECKS]
)
def test_checks_of_a_kind_have_names_of_their_own(checks: tuple[Check[Any], ...]) -> None:
    assert isinstance(checks, tuple)  # pytest parametrises by tuples
    assert len({check.name for check in checks}) == len(checks)


def test_data_that_cannot_be_read_are_one_failure_and_no_more() -> None:
    class Speechless(Specimen):
        def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Any:
            return [], []

    trial = TaskTrial(Speechless())
    results = list(run_all("task speechless", trial, TASK_CHECKS))
    failed = [result for result in results if result.outcome == "failed"]
    assert [result.check for result in failed] == ["examples_are_read"]
    assert "Speechless.read() (test_report.py:" in failed[0].message
    assert "returned tuple, not visiongraft.Splits(train, validation)" in failed[0].message
    others = [result for result in results if result.outcome == "not tried"]
    assert len(others) > 20 and all("there is no example dataset" in r.message for r in others[:5])

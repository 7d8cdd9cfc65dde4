"""Run the conformance kit on regression, and the checks without training on other options."""

from __future__ import annotations

from typing import Any

import pytest

from visiongraft.plugins.translation.task import Translation
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial
from visiongraft.testing.tasks import FORWARD_CHECKS
from visiongraft.testing.tasks.data import DATA_CHECKS

QUICK = (*DATA_CHECKS, *FORWARD_CHECKS)


@pytest.fixture(scope="module")
def trial() -> TaskTrial:
    return TaskTrial(Translation(channels=16))


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=each.name, marks=() if each in QUICK else pytest.mark.exhaustive)
        for each in TASK_CHECKS
    ],
)
def test_regression_passes(trial: TaskTrial, check: Check[Any]) -> None:
    check(trial)


def test_changes_of_the_input_in_the_other_direction_pass_the_checks_without_training() -> None:
    trial = TaskTrial(
        Translation(channels=16, residual=True, direction="b_to_a", loss="charbonnier")
    )
    for check in QUICK:
        check(trial)

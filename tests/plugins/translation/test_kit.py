"""Run the conformance kit on regression and with a critic, and checks without training on other options."""

from __future__ import annotations

from typing import Any

import pytest

from visiongraft.plugins.translation.task import Translation
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial, check_transfer_loss
from visiongraft.testing.tasks import FORWARD_CHECKS
from visiongraft.testing.tasks.data import DATA_CHECKS

TASKS = {
    "regression": Translation(channels=16),
    "critic": Translation(channels=16, adversarial_loss="least_squares"),
}


@pytest.fixture(scope="module")
def trials() -> dict[str, TaskTrial]:
    return {name: TaskTrial(task) for name, task in TASKS.items()}


def case(name: str, check: Check[Any]) -> Any:
    """Mark checks that train, and those that do not depend on the loss."""
    quick = check in FORWARD_CHECKS or (name == "regression" and check in DATA_CHECKS)
    return pytest.param(
        name, check, id=f"{check.name}-{name}", marks=() if quick else pytest.mark.exhaustive
    )


@pytest.mark.parametrize(("name", "check"), [case(n, c) for n in TASKS for c in TASK_CHECKS])
def test_it_passes(trials: dict[str, TaskTrial], name: str, check: Check[Any]) -> None:
    check(trials[name])


@pytest.mark.exhaustive
def test_the_perceptual_loss_passes() -> None:
    check_transfer_loss("perceptual")


@pytest.mark.exhaustive
def test_changes_of_the_input_in_the_other_direction_pass_the_checks_without_training() -> None:
    trial = TaskTrial(
        Translation(channels=16, residual=True, direction="b_to_a", loss="charbonnier")
    )
    for check in (*DATA_CHECKS, *FORWARD_CHECKS):
        check(trial)

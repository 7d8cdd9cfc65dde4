"""Run the conformance kit on generation by an autoencoder and by adversarial training."""

from __future__ import annotations

from typing import Any

import pytest

from visiongraft.plugins.generation.task import Generation
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial
from visiongraft.testing.tasks.data import DATA_CHECKS
from visiongraft.testing.tasks.resuming import RESUMING_CHECKS

QUICK = (*DATA_CHECKS, *RESUMING_CHECKS)


@pytest.fixture(scope="module", params=["vae", "gan"])
def trial(request: pytest.FixtureRequest) -> TaskTrial:
    return TaskTrial(Generation(request.param, latents=8, width=16, features_size=32))


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=each.name, marks=() if each in QUICK else pytest.mark.exhaustive)
        for each in TASK_CHECKS
    ],
)
def test_it_passes(trial: TaskTrial, check: Check[Any]) -> None:
    check.run(trial)

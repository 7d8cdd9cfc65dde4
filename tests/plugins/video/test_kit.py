"""Run the conformance kit on video classification with several clips and the order of frames."""

from __future__ import annotations

from typing import Any

import pytest

from visiongraft.plugins.video.task import Video
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial
from visiongraft.testing.tasks import FORWARD_CHECKS
from visiongraft.testing.tasks.data import DATA_CHECKS

QUICK = (*DATA_CHECKS, *FORWARD_CHECKS)


@pytest.fixture(scope="module")
def trial() -> TaskTrial:
    return TaskTrial(Video(frames=2, clips=2, temporal="transformer"))


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=each.name, marks=() if each in QUICK else pytest.mark.exhaustive)
        for each in TASK_CHECKS
    ],
)
def test_it_passes(trial: TaskTrial, check: Check[Any]) -> None:
    check.run(trial)

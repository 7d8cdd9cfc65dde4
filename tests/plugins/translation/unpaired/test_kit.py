"""Run the conformance kit on translation without pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from visiongraft.network import InferenceGraph, Network
from visiongraft.plugins.translation.unpaired.task import UnpairedTranslation
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial
from visiongraft.testing.report import Fault
from visiongraft.testing.tasks.data import DATA_CHECKS
from visiongraft.testing.tasks.learning import LEARNING_CHECKS


class Blind(UnpairedTranslation):
    """Makes the same image of every image."""

    def inference_step(
        self, network: Network | InferenceGraph, images: Tensor
    ) -> dict[str, Tensor]:
        return super().inference_step(network, torch.zeros_like(images))


@pytest.fixture(scope="module")
def trial() -> TaskTrial:
    return TaskTrial(UnpairedTranslation(channels=16, features_size=32))


# A value of an image that is rounded the other way in another batch changes KID by some ten-thousandths; whether
# one is depends on the processor.
ROUNDED = pytest.mark.xfail(reason="KID of rounded images depends on the batch", strict=False)


def marks_of(check: Check[Any]) -> list[pytest.MarkDecorator]:
    marks = [] if check in DATA_CHECKS else [pytest.mark.exhaustive]
    return [*marks, ROUNDED] if check.name == "metrics_do_not_depend_on_batches" else marks


@pytest.mark.parametrize(
    "check", [pytest.param(each, id=each.name, marks=marks_of(each)) for each in TASK_CHECKS]
)
def test_it_passes(trial: TaskTrial, check: Check[Any]) -> None:
    check(trial)


@pytest.mark.exhaustive
def test_a_network_that_ignores_its_images_is_caught() -> None:
    trial = TaskTrial(Blind(channels=8, features_size=32))
    overfit = next(c for c in LEARNING_CHECKS if c.name == "a_few_images_are_overfit")
    with pytest.raises(Fault):
        overfit.run(trial)

"""Run the conformance kit on generation by an autoencoder and by adversarial training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from visiongraft.network import InferenceGraph, Network
from visiongraft.plugins.generation.task import Generation
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial
from visiongraft.testing.report import Fault
from visiongraft.testing.tasks.data import DATA_CHECKS
from visiongraft.testing.tasks.learning import LEARNING_CHECKS
from visiongraft.testing.tasks.resuming import RESUMING_CHECKS


class Deaf(Generation):
    """Makes the same image of every latent."""

    def inference_step(self, network: Network | InferenceGraph, images: Tensor) -> Tensor:
        return super().inference_step(network, torch.zeros_like(images))


QUICK = (*DATA_CHECKS, *RESUMING_CHECKS)


SMALL: dict[str, Any] = {"latents": 8, "width": 16, "features_size": 32}
TASKS = {
    "vae": Generation("vae", **SMALL),
    "gan": Generation("gan", **SMALL),
    "projected": Generation("gan", critic="maps", adversarial_loss="hinge", **SMALL),
}


@pytest.fixture(
    scope="module", params=["vae", "gan", pytest.param("projected", marks=pytest.mark.exhaustive)]
)
def trial(request: pytest.FixtureRequest) -> TaskTrial:
    return TaskTrial(TASKS[request.param])


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=each.name, marks=() if each in QUICK else pytest.mark.exhaustive)
        for each in TASK_CHECKS
    ],
)
def test_it_passes(trial: TaskTrial, check: Check[Any]) -> None:
    check.run(trial)


@pytest.mark.exhaustive
def test_a_generator_that_ignores_its_latents_is_caught() -> None:
    trial = TaskTrial(
        Deaf("vae", latents=4, generator="mlp", features_size=32), backbone="generation/mlp_relu"
    )
    overfit = next(c for c in LEARNING_CHECKS if c.name == "a_few_images_are_overfit")
    with pytest.raises(Fault, match="results that depend on the latents"):
        overfit.run(trial)

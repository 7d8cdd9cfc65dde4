"""Checks of metrics that need what only PyTorch computes: the kit measures where the engine would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.short_trials import ShortTrial
from visiongraft.backbone import Backbone, Features
from visiongraft.data.batch import Batch
from visiongraft.data.samples import Samples, TargetSamples
from visiongraft.loss_parts import LossParts
from visiongraft.network import Network
from visiongraft.task import Arrays, TaskExamples
from visiongraft.testing import Check, CheckError, TaskTrial
from visiongraft.testing.specimen import Specimen, make_dataset
from visiongraft.testing.tasks.learning import a_few_images_are_overfit
from visiongraft.testing.tasks.loss import every_single_image_has_a_loss
from visiongraft.testing.tasks.metrics import METRIC_CHECKS, exported_files_are_measured_alike


class Head(nn.Module):
    """Predicts a brightness in a unit of its own, which is learned."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)
        self.unit = nn.Parameter(torch.ones(()))

    def forward(self, features: Features) -> Tensor:
        found: Tensor = self.linear(features.pooled)[:, 0]
        return found


class Error:
    """Mean absolute error in the unit of the head."""

    def __init__(self) -> None:
        self.errors: list[float] = []

    def update(self, decoded: Arrays, targets: Tensor) -> None:
        wanted = decoded.get("wanted", targets[:, 1].numpy())
        self.errors += np.abs(decoded["brightness"] - wanted).tolist()

    def compute(self) -> dict[str, Any]:
        mean = float(np.mean(self.errors))
        return {"mean_error": None if np.isnan(mean) else mean}


@dataclass(frozen=True)
class Known(TargetSamples):
    """Images with brightnesses, and with these in the unit of a head."""

    targets: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class OwnUnit(Specimen):
    """Targets are a brightness, and NaN in place of that in the unit which only the head knows."""

    def collate(self, targets: list[Any]) -> Tensor:
        pairs = [each if isinstance(each, tuple) else (each, float("nan")) for each in targets]
        return torch.tensor(pairs).reshape(-1, 2)

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Head(backbone.info.embedding_dim)

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        wanted = self.wanted(network, batch.targets)
        return super().training_step(network, replace(batch, targets=wanted))

    def evaluation_step(self, network: Network, batch: Batch) -> Mapping[str, Tensor]:
        return {"wanted": self.wanted(network, batch.targets)}

    def proof_samples(self, network: Network, samples: Samples) -> Samples:
        targets = self.collate([samples.target(i) for i in range(len(samples))])
        wanted = self.wanted(network, targets).tolist()
        return Known(samples, tuple(zip(targets[:, 0].tolist(), wanted, strict=True)))

    def wanted(self, network: Network, targets: Tensor) -> Tensor:
        unit: Any = network.head.unit
        return targets[:, 0] * unit

    def build_metrics(self) -> Error:  # type: ignore[override]
        return Error()

    def examples(self) -> TaskExamples:
        return TaskExamples(make_dataset, lambda targets: {"brightness": targets[:, 1].numpy()})


class UnprovedTask(OwnUnit):
    """Files are proved on targets that lack what the headline needs."""

    def proof_samples(self, network: Network, samples: Samples) -> Samples:
        return samples


class OldUnit(OwnUnit):
    """Files are proved on targets in the unit from before training."""

    def proof_samples(self, network: Network, samples: Samples) -> Samples:
        targets = [samples.target(i) for i in range(len(samples))]
        return Known(samples, tuple((each, each) for each in targets))


class AnswersFromTargets(Specimen):
    """Results depend on the targets alone, which evaluation passes."""

    def evaluation_step(self, network: Network, batch: Batch) -> Mapping[str, Tensor]:
        return {"brightness": batch.targets.float()}


class EvaluatesSeveral(OwnUnit):
    """What metrics need is computed for two images and more."""

    def evaluation_step(self, network: Network, batch: Batch) -> Mapping[str, Tensor]:
        if len(batch.images) < 2:
            raise ValueError("one image")
        return super().evaluation_step(network, batch)


@pytest.fixture(scope="module")
def trial() -> TaskTrial:
    return ShortTrial(OwnUnit())


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=lambda check: check.name)
def test_a_task_whose_targets_are_completed_by_its_network_conforms(
    trial: TaskTrial, check: Check[Any]
) -> None:
    check(trial)


def test_targets_that_lack_what_the_headline_needs_are_found() -> None:
    with pytest.raises(CheckError, match="None among mean_error"):
        exported_files_are_measured_alike(ShortTrial(UnprovedTask()))


def test_targets_from_before_training_are_found(trial: TaskTrial) -> None:
    faulty = ShortTrial(OldUnit())
    faulty.once("trained", trial.trained)  # which has another unit now
    with pytest.raises(CheckError, match="to measure a trained network, and its results without"):
        exported_files_are_measured_alike(faulty)


def test_an_evaluation_of_one_image_that_fails_is_found() -> None:
    with pytest.raises(CheckError, match="loss and metrics of one image"):
        every_single_image_has_a_loss(ShortTrial(EvaluatesSeveral()))


@pytest.mark.exhaustive
def test_results_that_evaluation_takes_from_the_targets_are_found() -> None:
    with pytest.raises(CheckError, match="results must depend on the image"):
        a_few_images_are_overfit(TaskTrial(AnswersFromTargets()))

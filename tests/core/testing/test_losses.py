"""The kit on transfer losses: sound ones pass, also with streams, and planted faults are found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from visiongraft.hookspecs import hookimpl
from visiongraft.registry.manager import PluginManager, using
from visiongraft.testing import (
    TRANSFER_LOSS_CHECKS,
    CheckError,
    TransferLossTrial,
    check_transfer_loss,
)
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class Aligned(TransferLoss):
    """Pulls the embeddings of a stream to the mean of the past ones, which is a buffer."""

    name = "aligned"
    reads_features = True
    streams = ("unlabelled",)

    def __init__(self, backbone: Any, source: Any, *, weight: float = 1.0) -> None:
        super().__init__(backbone, source)
        self.weight = weight
        self.register_buffer("mean", torch.zeros(source.info.embedding_dim))

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        pooled = step.backbone(step.batch.streams["unlabelled"].images).pooled
        self.mean = self.mean.lerp(step.features.pooled.detach().float().mean(0), 0.1)
        return {"distance": self.weight * (pooled - self.mean).square().mean()}


class Forgetful(TransferLoss):
    """Counts its steps in an attribute, which no checkpoint contains."""

    name = "forgetful"

    def __init__(self, backbone: Any, source: Any) -> None:
        super().__init__(backbone, source)
        self.steps = 0

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        self.steps += 1
        return {"size": next(step.head.parameters()).square().sum() * self.steps}


class FullOnly(TransferLoss):
    """Mixes embeddings with a buffer of another type in half precision."""

    name = "full_only"
    reads_features = True

    def __init__(self, backbone: Any, source: Any) -> None:
        super().__init__(backbone, source)
        self.register_buffer("total", torch.zeros(source.info.embedding_dim))

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        pooled = step.features.pooled
        return {"distance": self.total.lerp(pooled.mean(0), 0.5).square().mean()}


class Dicing(TransferLoss):
    """Draws from the operating system."""

    name = "dicing"

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        return {"size": next(step.head.parameters()).square().sum() * os.urandom(1)[0]}


class Plugin:
    @hookimpl
    def register_losses(self) -> list[type[TransferLoss]]:
        return [Aligned, Forgetful, FullOnly, Dicing]


@pytest.fixture
def manager() -> Iterator[PluginManager]:
    made = PluginManager()
    made.register(Plugin(), "losses")
    with using(made):
        yield made


def check_named(name: str) -> Callable[[Any], None]:
    (found,) = (check for check in TRANSFER_LOSS_CHECKS if check.name == name)
    return found


def test_a_loss_that_uses_a_stream_passes(manager: PluginManager) -> None:
    check_transfer_loss("aligned(weight=0.5)")


@pytest.mark.parametrize(
    ("loss", "check", "words"),
    [
        ("forgetful", "a_killed_run_resumes_exactly", "parameters and buffers"),
        ("full_only", "half_precision_trains", "to train in bfloat16"),
        pytest.param(
            "dicing", "equal_runs_are_equal", "parameters and buffers", marks=pytest.mark.exhaustive
        ),
    ],
)
def test_a_planted_fault_is_found(
    manager: PluginManager, loss: str, check: str, words: str
) -> None:
    with pytest.raises(CheckError, match=words):
        check_named(check)(TransferLossTrial(loss))

"""The loss on validation images: what it is, and that it changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visiongraft.data.batch import Batch
from visiongraft.network import Network
from visiongraft.training.measuring.validation_loss import ValidationLoss


class Counting(nn.Module):
    """A loss that learns from whatever it sees, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
        self.seen += len(outputs)
        torch.rand(3)
        known = targets >= 0
        errors = (outputs[:, 0] - targets)[known].abs()
        return {"mean": outputs.mean(), "known": (errors.sum(), int(known.sum()))}


@pytest.fixture
def network(Toy: Any, toy_network: Network) -> Network:
    class Alike(Toy):  # type: ignore[misc]
        splits_alike = True

        def build_loss(self) -> nn.Module:
            return Counting()

    return Network(toy_network.backbone, Alike())


def batch(targets: list[int]) -> Batch:
    count = len(targets)
    sizes = torch.ones(count, 2, dtype=torch.int64)
    return Batch(torch.zeros(count, 3, 4, 4), torch.tensor(targets), sizes, torch.arange(count))


def test_parts_are_means_over_all_batches(network: Network) -> None:
    losses = ValidationLoss(network)
    losses.add(torch.tensor([[1.0], [2.0]]), batch([0, -1]))
    losses.add(torch.tensor([[6.0]]), batch([1]))
    assert losses.means() == {"mean": 3.0, "known": 3.0, "loss": 6.0}


def test_nothing_that_trains_learns_of_validation_images(network: Network) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    ValidationLoss(network).add(torch.ones(2, 1), batch([0, 1]))
    assert torch.rand(1) == expected
    assert network.loss.seen == 0


def test_targets_that_mean_something_else_have_no_loss(toy_network: Network) -> None:
    losses = ValidationLoss(toy_network)
    losses.add(torch.ones(2, 3), batch([0, 1]))
    assert losses.means() == {}

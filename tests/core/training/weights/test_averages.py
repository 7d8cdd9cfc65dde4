"""Averages of weights: the moving average warms up; both leave frozen tensors alone, and is applied only temporarily."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visiongraft.training.weights.averages import EMA, SWA


def test_averages_follow_the_weights_with_a_warm_up():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = EMA(layer, 0.9)
    nn.init.ones_(layer.weight)
    expected = 0.0
    for updates in range(5):
        average.after_step(layer, frozen=set())
        decay = min(0.9, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay)
        assert float(average.tensors["weight"]) == pytest.approx(expected)


def test_frozen_tensors_and_counters_are_not_averaged():
    norm = nn.BatchNorm1d(2)
    average = EMA(norm, 0.9)
    with torch.no_grad():
        norm.weight += 1
        norm.bias += 1
    average.after_step(norm, frozen={"weight"})
    assert torch.equal(average.tensors["weight"], torch.ones(2))
    assert (average.tensors["bias"] > 0).all()
    assert "num_batches_tracked" not in average.tensors


def test_the_network_gets_its_own_values_back_even_after_an_error():
    layer = nn.Linear(2, 2)
    average = EMA(layer, 0.5)
    own = layer.weight.detach().clone()
    average.tensors["weight"] += 1
    with pytest.raises(RuntimeError), average.applied(layer):
        assert torch.equal(layer.weight, average.tensors["weight"])
        raise RuntimeError
    assert torch.equal(layer.weight, own)


def test_frozen_tensors_are_copied_unchanged() -> None:
    layer = nn.Linear(2, 2)
    average = EMA(layer, 0.9)
    with torch.no_grad():
        layer.weight += 1
        layer.bias += 1
    average.after_step(layer, frozen=set())
    before = average.tensors["bias"].clone()
    average.adopt(layer, {"weight", "a name that is not averaged"})
    assert torch.equal(average.tensors["weight"], layer.weight)
    assert average.tensors["weight"].data_ptr() != layer.weight.data_ptr()
    assert torch.equal(average.tensors["bias"], before)
    assert average.updates == 1


def test_the_mean_over_epochs_follows_the_network_until_the_first_that_counts():
    layer = nn.Linear(1, 1, bias=False)
    average = SWA(layer, first=2)
    means = []
    for epoch, value in enumerate([3.0, 4.0, 1.0, 2.0, 6.0]):
        nn.init.constant_(layer.weight, value)
        average.after_epoch(layer, frozen=set(), epoch=epoch)
        means.append(average.tensors["weight"].item())
    assert means == pytest.approx([3, 4, 1, 1.5, 3])


def test_frozen_tensors_have_no_mean_over_epochs():
    norm = nn.BatchNorm1d(1)
    average = SWA(norm, first=0)
    with torch.no_grad():
        norm.weight += 1
    average.after_epoch(norm, frozen={"weight"}, epoch=0)
    assert average.tensors["weight"].item() == 1

"""Optimizer state by name, and learning rates by step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visiongraft.errors import CheckpointError, OptionError
from visiongraft.training.optimizers import (
    build_optimizer,
    learning_rate_factor,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)


def groups_of(layer: nn.Linear) -> list[dict]:
    names, params = zip(*layer.named_parameters(), strict=True)
    return [{"names": list(names), "params": list(params), "lr": 0.1, "peak_lr": 0.1}]


def steps(layer: nn.Linear, optimizer: torch.optim.Optimizer, count: int) -> None:
    for i in range(count):
        layer(torch.full((1, 3), i + 1.0)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_state_read_by_name_and_put_back_continues_exactly(name):
    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    first = build_optimizer(name, groups_of(one))
    steps(one, first, 3)
    other.load_state_dict(one.state_dict())
    second = build_optimizer(name, groups_of(other))
    restore_optimizer(second, *optimizer_tensors(first))
    steps(one, first, 2)
    steps(other, second, 2)
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)


def test_state_that_is_not_a_tensor_is_restored_too() -> None:
    optimizer = build_optimizer("sgd", groups_of(nn.Linear(3, 2)))
    restore_optimizer(optimizer, {}, {"weight/count": 3, "bias/note": None})
    assert optimizer_tensors(optimizer) == ({}, {"weight/count": 3, "bias/note": None})


def test_state_of_a_frozen_parameter_is_refused():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer("adamw", groups_of(layer))
    with pytest.raises(CheckpointError, match=r"'stem\.weight', which is frozen"):
        restore_optimizer(optimizer, {"stem.weight/exp_avg": torch.zeros(1)}, {})


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(OptionError, match="did you mean 'sgd'"):
        build_optimizer("sgdd", [])


@given(total=st.integers(1, 500), data=st.data())
def test_the_learning_rate_rises_once_then_falls_and_stays_in_bounds(total, data):
    factors = [learning_rate_factor(s, total) for s in range(total)]
    assert all(0 < f <= 1 for f in factors)
    top = factors.index(max(factors))
    assert factors[top] == 1.0
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_every_group_follows_its_own_peak():
    layer = nn.Linear(3, 2)
    groups = [
        {"names": ["weight"], "params": [layer.weight], "lr": 1.0, "peak_lr": 1.0},
        {"names": ["bias"], "params": [layer.bias], "lr": 0.2, "peak_lr": 0.2},
    ]
    optimizer = build_optimizer("sgd", groups)
    set_learning_rate(optimizer, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.1]

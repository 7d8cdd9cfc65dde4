"""Optimizer state by name, and learning rates by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks

from tests.core.conftest import Toy
from visiongraft.errors import CheckpointError, PluginError
from visiongraft.lookup import find_optimizer
from visiongraft.optimizers import adamw, sgd
from visiongraft.schedules import SHAPES
from visiongraft.training.optimizers import (
    build_optimizer,
    learning_rate_factor,
    optimizer_tensors,
    restore_optimizers,
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
    first = build_optimizer(find_optimizer(name), groups_of(one))
    steps(one, first, 3)
    other.load_state_dict(one.state_dict())
    second = build_optimizer(find_optimizer(name), groups_of(other))
    restore_optimizers([second], *optimizer_tensors([first]))
    steps(one, first, 2)
    steps(other, second, 2)
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)


def test_state_that_is_not_a_tensor_is_restored_too() -> None:
    optimizer = build_optimizer(sgd, groups_of(nn.Linear(3, 2)))
    restore_optimizers([optimizer], {}, {"weight/count": 3, "bias/note": None})
    assert optimizer_tensors([optimizer]) == ({}, {"weight/count": 3, "bias/note": None})


def test_state_of_a_frozen_parameter_is_refused():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(adamw, groups_of(layer))
    with pytest.raises(CheckpointError, match=r"'stem\.weight', which is frozen"):
        restore_optimizers([optimizer], {"stem.weight/exp_avg": torch.zeros(1)}, {})


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(PluginError, match="did you mean 'sgd'"):
        find_optimizer("sgdd")


@given(total=st.integers(1, 500), shape=st.sampled_from(SHAPES))
def test_the_learning_rate_rises_once_then_falls_and_stays_in_bounds(total, shape):
    factors = [learning_rate_factor(s, total, shape) for s in range(total)]
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
    optimizer = build_optimizer(sgd, groups)
    set_learning_rate(optimizer, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.1]


# ---- optimizers of a task's own ----


def with_optimizer(make: Any) -> Toy:
    """Make a toy task whose training step trains a critic by itself."""
    critic = nn.Linear(3, 1)
    kept: list[torch.optim.Optimizer] = []

    def training_step(self: Any, network: Any, batch: Any) -> dict[str, torch.Tensor]:
        parts = Toy.training_step(self, network, batch)
        optimizer = make(critic, kept)
        critic(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        return parts

    return type("Critical", (Toy,), {"training_step": training_step})(augment=False)


def keeping(kind: Any, **options: Any) -> Any:
    def make(critic: nn.Module, kept: list[torch.optim.Optimizer]) -> torch.optim.Optimizer:
        if not kept:
            kept.append(kind(critic.parameters(), lr=0.01, **options))
        return kept[0]

    return make


@pytest.mark.parametrize(
    "make", [keeping(torch.optim.Adam), keeping(torch.optim.SGD, momentum=0.9)], ids=["adam", "sgd"]
)
@pytest.mark.parametrize("replay", [False, "auto"])
def test_an_optimizer_that_a_task_keeps_is_refused(
    fit_toy: Any, toy_data: Any, make: Any, replay: Any
) -> None:
    settings = {"schedule": "linear_probe", "epochs": 2, "replay": replay}
    with pytest.raises(PluginError, match=r"task 'toy' keeps an optimizer of its own \(") as error:
        fit_toy(toy_data(40), task=with_optimizer(make), **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        keeping(torch.optim.SGD),
        lambda critic, kept: torch.optim.Adam(critic.parameters(), lr=0.01),
    ],
    ids=["without state", "of one step"],
)
def test_an_optimizer_without_state_to_lose_is_accepted(
    fit_toy: Any, toy_data: Any, make: Any
) -> None:
    fit_toy(toy_data(20), task=with_optimizer(make), schedule="linear_probe", epochs=1)


def test_watching_ends_with_the_run(fit_toy: Any, toy_data: Any) -> None:
    fit_toy(toy_data(20), schedule="linear_probe", epochs=1)
    assert not _global_optimizer_post_hooks

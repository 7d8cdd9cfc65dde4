"""What a training step may return as its loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from visiongraft.errors import PluginError
from visiongraft.loss_parts import read_parts


def test_a_tensor_is_a_mean_and_a_pair_is_a_sum_with_its_weight() -> None:
    parts = read_parts({"mean": torch.tensor(2.0), "sum": (torch.tensor(6.0), 4)}, "mine")
    assert parts["mean"].weight is None
    assert parts["mean"].mean == 2.0
    assert parts["sum"].mean == 1.5


def test_a_sum_over_nothing_is_0() -> None:
    assert read_parts({"a": (torch.tensor(0.0), torch.tensor(0))}, "mine")["a"].mean == 0.0


def test_no_gradient_flows_into_weights() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    part = read_parts({"a": (torch.tensor(1.0), weight)}, "mine")["a"]
    assert part.weight is not None
    assert not part.weight.requires_grad


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (torch.tensor(1.0), "returned Tensor, not a dict"),
        ({}, "returned dict, not a dict"),
        ({"a": 1.0}, "'a' of task 'mine' is float, not a tensor without dimensions"),
        ({"a": torch.ones(2)}, r"is a tensor of shape \(2,\)"),
        ({"a": (torch.tensor(1.0), None)}, r"is \(a tensor of shape \(\), NoneType\)"),
        ({"a": (torch.tensor(1.0), torch.ones(3))}, "shape"),
        ({"a": (torch.tensor(1.0), 1, 2)}, "not a tensor"),
    ],
)
def test_anything_else_is_refused_by_name(parts: Any, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        read_parts(parts, "mine")

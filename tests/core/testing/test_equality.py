"""Equality of values of any type, as the conformance kit compares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from visiongraft.testing.equality import same

NAN = float("nan")


@dataclass
class Boxes:
    positions: Any


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value


@pytest.mark.parametrize(
    "make",
    [
        lambda: 3,
        lambda: "cat",
        lambda: NAN,
        lambda: (1, [2.5, None], {"a": NAN}),
        lambda: np.array([1.0, NAN]),
        lambda: np.array(["a", "b"]),
        lambda: torch.tensor([NAN, 2]),
        lambda: Boxes(np.array([[1, 2], [3, 4]])),
        lambda: Boxes({"deep": [torch.ones(2)]}),
        lambda: Plain(np.zeros(0)),
        lambda: [Plain(Boxes(np.ones(3)))],
    ],
)
def test_equal_values_created_twice_are_the_same(make: Any) -> None:
    assert same(make(), make())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, True),
        (NAN, 0.0),
        ([1, 2], (1, 2)),
        (np.zeros(2), np.zeros(3)),
        (np.zeros(2), np.zeros(2, dtype=np.float32)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64)),
        (np.array([NAN, 1]), np.array([NAN, 2])),
        (Boxes(np.array([1, 2])), Boxes(np.array([1, 3]))),
        (Plain(np.ones(2)), Plain(np.zeros(2))),
        (Plain(1), Boxes(1)),
        ({"a": 1}, {"a": 1, "b": 2}),
    ],
)
def test_different_values_are_not_the_same(one: Any, other: Any) -> None:
    assert not same(one, other)

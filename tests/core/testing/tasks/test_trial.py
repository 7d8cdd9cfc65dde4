"""What the trials of the kit rest on: values that are the same, and batches cut alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.loader import shuffled_batches
from visiongraft.testing.tasks.processes import _evenly
from visiongraft.testing.tasks.trial import same

NAN = float("nan")


@dataclass
class Boxes:
    places: Any


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
def test_equal_values_are_the_same_though_made_twice(make: Any) -> None:
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
def test_other_values_are_not(one: Any, other: Any) -> None:
    assert not same(one, other)


@given(images=st.integers(8, 400))
def test_the_batches_of_two_processes_are_those_of_one(images: int) -> None:
    size = _evenly(images)
    assert size % 2 == 0
    one, two = (shuffled_batches(images, size, 0, 0, processes) for processes in (1, 2))
    assert one == two

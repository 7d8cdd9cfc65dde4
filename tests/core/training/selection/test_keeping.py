"""The weights of the best epoch are copies, in memory that is used again."""

from __future__ import annotations

import torch

from visiongraft.training.selection.keeping import BestWeights


def test_the_weights_of_a_better_epoch_take_the_place_of_those_before() -> None:
    best, weights = BestWeights(), {"a": torch.ones(3), "b": torch.tensor(1)}
    best.keep(weights)
    places = {name: tensor.data_ptr() for name, tensor in best.tensors.items()}
    weights["a"] += 1
    assert best.tensors["a"].tolist() == [1, 1, 1]
    best.written = True
    best.keep(weights)
    assert best.tensors["a"].tolist() == [2, 2, 2]
    assert {name: tensor.data_ptr() for name, tensor in best.tensors.items()} == places
    assert not best.written


def test_weights_of_another_network_replace_those_before() -> None:
    best = BestWeights()
    best.keep({"a": torch.ones(3), "b": torch.ones(2)})
    best.keep({"a": torch.zeros(4, dtype=torch.int64), "c": torch.ones(1)})
    assert {name: tuple(t.shape) for name, t in best.tensors.items()} == {"a": (4,), "c": (1,)}
    assert best.tensors["a"].dtype == torch.int64


def test_memory_is_reserved_once_and_is_no_result() -> None:
    best, weights = BestWeights(), {"a": torch.ones(3)}
    best.reserve(weights)
    assert best.written  # nothing to write yet
    place = best.tensors["a"].data_ptr()
    best.reserve({"a": torch.zeros(3)})
    best.keep({"a": torch.full((3,), 2.0)})
    assert (best.tensors["a"].data_ptr(), best.tensors["a"].tolist()) == (place, [2, 2, 2])

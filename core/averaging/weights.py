"""Weighted means of the tensors of several networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def weighted_mean(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]
) -> dict[str, Tensor]:
    """Compute the weighted mean of each tensor, in double precision.

    Tensors that are equal in all states, such as frozen ones, stay bit-identical. Running statistics of
    batch norm are averaged like weights.

    Args:
        states: Tensors by name, the same names and shapes in each.
        weights: A weight for each state, in sum 1.

    Returns:
        Tensors by name, with the dtypes of the first state; tensors of integers are the first's.

    Examples:
        >>> states = [{"w": torch.tensor([0.0])}, {"w": torch.tensor([1.0])}]
        >>> weighted_mean(states, [0.75, 0.25])
        {'w': tensor([0.2500])}
    """
    return {name: _mean([state[name] for state in states], weights) for name in states[0]}


def _mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point() or all(torch.equal(first, each) for each in tensors[1:]):
        return first.clone()
    total = sum(
        each.double() * weight for each, weight in zip(tensors, weights, strict=True) if weight
    )
    assert isinstance(total, Tensor)
    return total.to(first.dtype)

"""The divergence of class scores, against numpy and its limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from visiongraft.errors import OptionError
from visiongraft.plugins.losses.divergence import output_divergence, softened_divergence


def logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 5)])
def test_it_is_the_kl_divergence_times_the_squared_temperature(shape: tuple[int, ...]) -> None:
    student, teacher = logits(0, *shape), logits(1, *shape)
    p, q = (softmax(x.double().numpy() / 2.0) for x in (teacher, student))
    expected = 4.0 * (p * np.log(p / q)).sum(1).mean()
    assert float(softened_divergence(student, teacher, 2.0)) == pytest.approx(expected, rel=1e-5)


def test_at_high_temperature_it_is_the_distance_of_centered_logits() -> None:
    student, teacher = logits(0, 6, 4), logits(1, 6, 4)
    moved = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    expected = float(moved.square().sum(1).mean()) / (2 * 4)
    assert float(softened_divergence(student, teacher, 300.0)) == pytest.approx(expected, rel=2e-2)


def test_one_channel_is_the_logit_of_a_binary_class() -> None:
    student, teacher = logits(0, 5, 1), logits(1, 5, 1)
    pair = [torch.cat([torch.zeros_like(x), x], 1) for x in (student, teacher)]
    expected = float(softened_divergence(pair[0], pair[1], 2.0))
    assert float(softened_divergence(student, teacher, 2.0)) == pytest.approx(expected)


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = logits(0, 5, 3).requires_grad_(), logits(1, 5, 3).requires_grad_()
    softened_divergence(student, teacher, 2.0).backward()
    assert student.grad is not None and teacher.grad is None


def test_outputs_of_several_tensors_are_averaged_and_maps_resized() -> None:
    ours = {"a": logits(0, 2, 3), "b": logits(1, 2, 3, 4, 4)}
    theirs = {"a": logits(2, 2, 3), "b": torch.ones(2, 3, 8, 8)}
    parts = [
        softened_divergence(ours["a"], theirs["a"], 2.0),
        softened_divergence(ours["b"], torch.ones(2, 3, 4, 4), 2.0),
    ]
    expected = float(sum(parts)) / 2
    assert float(output_divergence(ours, theirs, 2.0, "x", "try y")) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (torch.zeros(2, 4), r"x returns \(2, 4\), and the network \(2, 3\); .*; try y"),
        ({"a": torch.zeros(2, 3)}, r"x returns \{'a': \(2, 3\)\}"),
        (torch.zeros(2), r"x returns \(2,\)"),
    ],
)
def test_other_outputs_are_refused(wanted: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        output_divergence(torch.zeros(2, 3), wanted, 2.0, "x", "try y")


def test_what_is_no_class_score_is_refused() -> None:
    with pytest.raises(OptionError, match=r"x returns \(2,\), which are no class scores .*; try y"):
        output_divergence(torch.zeros(2), torch.zeros(2), 2.0, "x", "try y")

"""L2-SP pulls weights straight back to where they began."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from visiongraft.errors import OptionError
from visiongraft.schedules import Phase
from visiongraft.training.trainable import apply_phase


def shift(bench: Any) -> None:
    with torch.no_grad():
        for parameter in bench.network.backbone.parameters():
            parameter.add_(0.5)


def test_it_is_half_the_squared_distance_times_its_weights(bench: Callable[..., Any]) -> None:
    at = bench("l2_sp(alpha=0.2, beta=0.4)")
    shift(at)
    parts = at.parts(at.batch())
    moved = sum(p.numel() for p in at.network.backbone.parameters()) * 0.25
    norm = sum(float(p.detach().square().sum()) for p in at.network.head.parameters())
    assert parts.keys() == {"backbone", "head"}
    assert float(parts["backbone"]) == pytest.approx(0.1 * moved, rel=1e-5)
    assert float(parts["head"]) == pytest.approx(0.2 * norm, rel=1e-5)


def test_it_pulls_each_trainable_weight_straight_back(bench: Callable[..., Any]) -> None:
    at = bench("l2_sp(alpha=3.0)")
    apply_phase(at.network, Phase(1, "stage2"))
    shift(at)
    at.parts(at.batch())["backbone"].backward()
    for name, parameter in at.network.backbone.named_parameters():
        if "stage2" in name:
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, torch.full_like(parameter, 1.5), atol=1e-5)
        else:
            assert parameter.grad is None  # frozen


def test_it_is_zero_where_nothing_of_the_backbone_trains(bench: Callable[..., Any]) -> None:
    at = bench("l2_sp")
    apply_phase(at.network, Phase(1, "head"))
    assert float(at.parts(at.batch())["backbone"].detach()) == 0


def test_a_head_without_parameters_has_no_norm(bench: Callable[..., Any]) -> None:
    at = bench("l2_sp")
    parts = at.loss(replace(at.seen(at.batch()), head=nn.Identity()))
    assert float(parts["head"].detach()) == 0


@pytest.mark.parametrize("options", ["alpha=-1", "beta='much'", "alpha=True"])
def test_other_weights_are_refused(bench: Callable[..., Any], options: str) -> None:
    with pytest.raises(OptionError, match="of l2_sp is not a number of at least 0"):
        bench(f"l2_sp({options})")

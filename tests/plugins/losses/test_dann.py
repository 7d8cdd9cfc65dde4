"""DANN against gradients and cross-entropies computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from visiongraft.data.batch import Batch
from visiongraft.errors import OptionError

Make = Callable[..., Any]


def joined(bench: Any, progress: float = 0.5) -> Batch:
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2)) + 1
    batch: Batch = bench.joined(bench.batch(), images, progress)
    return batch


def test_it_is_the_cross_entropy_of_the_domains_half_from_each(bench: Make) -> None:
    made = bench("dann(hidden=4)")
    batch = joined(made)
    parts = made.parts(batch)
    critic, backbone = made.loss.discriminator, made.network.backbone
    total, weight = parts["target"]
    with torch.no_grad():
        own = critic(backbone(batch.images).pooled).double().sigmoid()
        other = critic(backbone(batch.streams["unlabelled"].images).pooled).double().sigmoid()
    assert weight == 3
    assert float(parts["source"].detach()) == pytest.approx(float(-own.log().mean() / 2), rel=1e-5)
    assert float(total.detach()) == pytest.approx(float(-(1 - other).log().sum() / 2), rel=1e-5)


@pytest.mark.parametrize(("strength", "progress"), [(1.0, 0.0), (1.0, 0.2), (0.25, 0.9)])
def test_the_backbone_gets_the_reversed_gradient_by_the_published_schedule(
    bench: Make, strength: float, progress: float
) -> None:
    made = bench(f"dann(strength={strength}, hidden=4)")
    batch = joined(made, progress)
    parts = made.parts(batch)
    parameters = [*made.network.backbone.parameters()]
    reversed_ = torch.autograd.grad(parts["source"] + parts["target"][0] / 3, parameters)
    pooled, other = (
        made.network.backbone(b.images).pooled for b in (batch, batch.streams["unlabelled"])
    )
    critic = made.loss.discriminator
    plain = critic.losses(pooled, source=True).mean() + critic.losses(other, source=False).mean()
    plain_gradients = torch.autograd.grad(plain / 2, parameters)
    factor = -strength * (2 / (1 + math.exp(-10 * progress)) - 1)
    for one, expected in zip(reversed_, plain_gradients, strict=True):
        assert torch.allclose(one, factor * expected, atol=1e-7)


def test_options_out_of_range_are_refused(bench: Make) -> None:
    for options in ("strength=-1", "hidden=0"):
        with pytest.raises(OptionError, match="of dann is not"):
            bench(f"dann({options})")

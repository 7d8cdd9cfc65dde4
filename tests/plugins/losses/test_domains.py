"""Reversed gradients, and the vectors in which domains are compared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visiongraft.backbone import Features
from visiongraft.plugins.losses.domains import Discriminator, points_of, reverse


def test_reversal_changes_nothing_but_the_gradient() -> None:
    values = torch.randn(3, 4, requires_grad=True)
    reversed_ = reverse(values, 0.3)
    assert torch.equal(reversed_, values)
    upstream = torch.randn(3, 4)
    (gradient,) = torch.autograd.grad(reversed_, values, upstream)
    assert torch.equal(gradient, -0.3 * upstream)


def test_the_discriminator_learns_at_full_strength_behind_a_reversal() -> None:
    vectors, critic = torch.randn(5, 4), Discriminator(4, 8)
    gradients = [
        torch.autograd.grad(
            critic.losses(reverse(vectors, factor), source=True).mean(), list(critic.parameters())
        )
        for factor in (0.0, 0.7)
    ]
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("source", [True, False])
def test_its_losses_are_the_negative_logarithms_of_its_probabilities(source: bool) -> None:
    vectors, critic = torch.randn(5, 2, 4), Discriminator(4, 8)
    chance = critic(vectors)[..., 0].double().sigmoid()
    expected = -(chance if source else 1 - chance).log()
    losses = critic.losses(vectors, source=source)
    assert torch.allclose(losses.double(), expected, atol=1e-6) and losses.shape == (5, 2)


def test_points_are_embeddings_or_the_positions_of_the_deepest_map() -> None:
    deepest = torch.randn(2, 5, 3, 4)
    features = Features((torch.randn(2, 9, 6, 8), deepest), torch.randn(2, 7))
    assert torch.equal(points_of(features, dense=False), features.pooled[:, None])
    points = points_of(features, dense=True)
    assert points.shape == (2, 12, 5)
    assert torch.equal(points[1, 4 + 2], deepest[1, :, 1, 2])


def test_the_discriminator_has_two_hidden_layers() -> None:
    layers = [m for m in Discriminator(4, 8) if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(4, 8), (8, 8), (8, 1)]

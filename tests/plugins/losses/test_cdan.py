"""CDAN against outer products and entropies computed with numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from visiongraft.backbone import Features
from visiongraft.plugins.losses import cdan

Make = Callable[..., Any]


def test_the_discriminator_sees_the_outer_product_of_embedding_and_probabilities(
    bench: Make,
) -> None:
    made = bench("cdan(hidden=4)")
    batch = made.joined(made.batch(), torch.randn(3, 3, 8, 8))
    seen: list[torch.Tensor] = []
    watch = made.loss.discriminator.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    parts = made.parts(batch)
    watch.remove()
    network = made.network
    for joint, part, images in zip(
        seen,
        (parts["source"], parts["target"]),
        (batch.images, batch.streams["unlabelled"].images),
        strict=True,
    ):
        with torch.no_grad():
            features = network.backbone(images)
            logits = network.head(features).double().numpy()
            chance = made.loss.discriminator(joint)[:, 0, 0].double().sigmoid().numpy()
        powers = np.exp(logits)
        g = powers / powers.sum(1, keepdims=True)
        f = features.pooled.double().numpy()
        expected = np.stack([np.outer(a, b).ravel() for a, b in zip(f, g, strict=True)])
        assert np.allclose(joint[:, 0].detach().numpy(), expected, atol=1e-5)
        weights = 1 + np.exp((g * np.log(g)).sum(1))
        chance = chance if part is parts["source"] else 1 - chance
        assert float(part[0].detach()) == pytest.approx(
            (weights * -np.log(chance)).sum() / 2, rel=1e-4
        )
        assert float(part[1]) == pytest.approx(weights.sum(), rel=1e-5)


def test_neither_probabilities_nor_weights_get_a_gradient(bench: Make) -> None:
    made = bench("cdan(hidden=4)")
    parts = made.parts(made.joined(made.batch(), torch.randn(3, 3, 8, 8)))
    head = list(made.network.head.parameters())
    total = parts["source"][0] + parts["target"][0]
    assert torch.autograd.grad(total, head, allow_unused=True) == (None,) * len(head)
    assert not parts["source"][1].requires_grad


def test_without_entropy_all_images_weigh_the_same(bench: Make) -> None:
    made = bench("cdan(hidden=4, entropy=False)")
    parts = made.parts(made.joined(made.batch(), torch.randn(3, 3, 8, 8)))
    assert float(parts["source"][1]) == 4 and float(parts["target"][1]) == 3


def test_a_large_product_becomes_a_random_map_that_keeps_inner_products(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdan, "LARGEST", 383)
    made = bench("cdan(hidden=4)")  # 128 * 3 values
    loss = made.loss
    assert set(loss.state_dict()) >= {"of_features", "of_classes"}  # in every checkpoint
    assert loss.discriminator[0].in_features == 1024
    points, chances = torch.rand(2, 1, 128), torch.rand(2, 1, 3)
    found = 0.0
    for _ in range(20):
        loss.of_features.normal_()
        loss.of_classes.normal_()
        one, other = loss._join(points, chances)[:, 0]
        found += float(one @ other) / 20
    expected = (points[0, 0] @ points[1, 0]) * (chances[0, 0] @ chances[1, 0])
    assert found == pytest.approx(float(expected), rel=0.15)


def test_maps_are_joined_position_by_position(bench: Make) -> None:
    made = bench("cdan(hidden=4)")
    made.loss.dense = True
    logits = torch.randn(2, 3, 4, 6)
    features = Features((torch.randn(2, 5, 2, 3),), torch.randn(2, 7))
    chances = made.loss._chances(made.network.task, features, logits)
    assert chances.shape == (2, 6, 3)
    expected = logits[1].softmax(0)[:, :2, 2:4].mean((1, 2))
    assert torch.allclose(chances[1, 1], expected, atol=1e-6)

"""DELTA: its distance and its attention, against sums and removals computed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visiongraft.plugins.losses.classes import fit_logistic
from visiongraft.plugins.losses.delta import PROBE_DECAY, attention_of


def test_it_is_the_weighted_relative_distance_of_feature_maps(bench: Callable[..., Any]) -> None:
    at = bench("delta(strength=3.0)")
    at.prepare(at.batch(), at.batch((1, 2), seed=2))
    at.move()
    batch = at.batch(seed=3)
    with torch.no_grad():
        moved = [m.numpy() for m in at.network.backbone(batch.images).maps]
        source = [m.numpy() for m in at.transfer.source(batch.images).maps]
        train = [at.transfer.source(at.batch(i, seed=s).images).maps for i, s in TRAINING]
    weights = np.split(at.loss.weights.numpy(), np.cumsum(at.loss.channels)[:-1])
    levels = []
    for level, (f, f0, w) in enumerate(zip(moved, source, weights, strict=True)):
        values = np.concatenate([maps[level].numpy() for maps in train])
        apart = sum(w[c] * np.mean((f[:, c] - f0[:, c]) ** 2) for c in range(f.shape[1]))
        levels.append(apart / np.mean(values**2))
    part = float(at.parts(batch)["maps"].detach())
    assert part == pytest.approx(1.5 * np.mean(levels), rel=1e-4)


TRAINING = [((0, 1, 2, 0), 1), ((1, 2), 2)]


def test_importances_are_the_slope_of_the_loss_towards_removal(bench: Callable[..., Any]) -> None:
    at = bench("delta")
    batch = at.batch((0, 1, 2, 0, 1, 2))
    step = at.seen(batch)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 128, generator=generator, dtype=torch.float64)
    rises = at.loss._rises([step], weight, torch.zeros(3, dtype=torch.float64))

    def loss(level: int, channel: int, kept: float) -> float:
        source = at.transfer.source.double()
        with torch.no_grad():
            maps = [source.stem(batch.images.double())]
            if level == 0:
                maps[0][:, channel] *= kept
            maps.append(source.stage1(maps[0]))
            if level == 1:
                maps[1][:, channel] *= kept
            pooled = source.stage2(maps[1])
            return float(F.cross_entropy(pooled @ weight.T, batch.targets, reduction="sum"))

    small = 1e-6
    for level, channel in ((0, 3), (0, 17), (1, 5), (1, 40)):
        slope = (loss(level, channel, 1 - small) - loss(level, channel, 1)) / small
        assert float(rises[level][channel]) == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_attention_is_a_softmax_of_standardized_importances() -> None:
    rises = torch.tensor([0.3, -0.1, 2.0], dtype=torch.float64)
    values = rises.numpy()
    powers = np.exp((values - values.mean()) / values.std() / 5)
    assert attention_of(rises).numpy() == pytest.approx(powers / powers.sum(), rel=1e-9)


def test_weights_of_each_map_are_positive_and_sum_to_one(bench: Callable[..., Any]) -> None:
    at = bench("delta")
    at.prepare(at.batch((0, 1, 2, 1, 0, 2)))
    for weights in at.loss.weights.split(at.loss.channels):
        assert float(weights.sum()) == pytest.approx(1, rel=1e-5) and weights.min() > 0
        assert weights.std() > 0


@pytest.mark.parametrize("loss", ["delta(attention=False)", "delta"])
def test_channels_weigh_the_same_without_attention_or_class_ids(
    bench: Callable[..., Any], loss: str
) -> None:
    at = bench(loss)
    targets = None if "False" in loss else torch.rand(4, 3)
    at.prepare(at.batch(targets=targets))
    for weights in at.loss.weights.split(at.loss.channels):
        assert torch.allclose(weights, torch.full_like(weights, 1 / len(weights)))


@pytest.mark.slow  # imports scikit-learn
def test_the_probe_is_the_logistic_regression_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    ids = (inputs[:, 0] + 0.5 * inputs[:, 1]).mul(1.5).round().clamp(-1, 1).long() + 1
    weight, bias = fit_logistic(inputs, ids, 3, decay=PROBE_DECAY)
    reference = LogisticRegression(C=1 / (PROBE_DECAY * 60), tol=1e-10, max_iter=5000)
    reference.fit(inputs.numpy(), ids.numpy())
    logits = (inputs @ weight.T + bias).softmax(1).numpy()
    assert logits == pytest.approx(reference.predict_proba(inputs.numpy()), abs=1e-4)

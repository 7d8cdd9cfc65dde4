"""Deep embedded validation against its formula, and on distributions whose density ratio is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visiongraft.training.measuring import weighted_risk as module
from visiongraft.training.measuring.weighted_risk import importance_weights, weighted_risk


def test_it_is_the_papers_control_variate(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    weights, losses = generator.uniform(0.1, 3, 12), generator.uniform(0, 2, 12)
    monkeypatch.setattr(module, "importance_weights", lambda own, other: torch.from_numpy(weights))
    products = weights * losses
    eta = -np.cov(products, weights, ddof=1)[0, 1] / np.var(weights, ddof=1)
    expected = products.mean() + eta * weights.mean() - eta
    unused = torch.zeros(12, 1)
    assert weighted_risk(torch.from_numpy(losses), unused, unused) == pytest.approx(expected)


def test_equal_weights_leave_the_mean_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = torch.ones(5, dtype=torch.float64)
    monkeypatch.setattr(module, "importance_weights", lambda own, other: ones)
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    assert weighted_risk(losses, losses, losses) == pytest.approx(3)


def test_weights_follow_the_ratio_of_two_normal_densities() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(800, 1, generator=generator, dtype=torch.float64)
    other = torch.randn(400, 1, generator=generator, dtype=torch.float64) + 1
    weights = importance_weights(own, other)
    expected = (own[:, 0] - 0.5).exp()
    assert torch.corrcoef(torch.stack([weights.log(), expected.log()]))[0, 1] > 0.99
    assert float(weights.mean()) == pytest.approx(1, rel=0.2)


def test_the_risk_comes_near_the_loss_on_the_target() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(800, 1, generator=generator)
    other = torch.randn(800, 1, generator=generator) + 1
    losses = (own[:, 0] > 0).float()
    truth = float((other > 0).float().mean())  # about 0.84, and 0.5 on the source
    assert weighted_risk(losses, own, other) == pytest.approx(truth, abs=0.1)


def test_domains_that_are_told_apart_at_once_keep_it_finite() -> None:
    own, other = torch.randn(20, 3), torch.randn(20, 3) + 100
    assert np.isfinite(weighted_risk(torch.rand(20), own, other))

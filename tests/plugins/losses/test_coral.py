"""Deep CORAL against covariances computed with numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from visiongraft.plugins.losses.coral import covariance_distance


def test_it_is_the_relative_distance_of_the_covariances(bench: Callable[..., Any]) -> None:
    made = bench("coral(strength=0.5)")
    images = torch.randn(6, 3, 8, 8) * 2
    batch = made.batch()
    part = made.parts(made.joined(batch, images))["covariance"]
    with torch.no_grad():
        one, other = (
            np.cov(made.network.backbone(each).pooled.double().numpy().T)
            for each in (batch.images, images)
        )
    scale = ((one**2).sum() + (other**2).sum()) / 2
    assert float(part.detach()) == pytest.approx(0.5 * ((one - other) ** 2).sum() / scale, rel=1e-4)


def test_embeddings_do_not_shrink_along_its_gradient() -> None:
    own, other = torch.randn(6, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    gradients = torch.autograd.grad(covariance_distance(own, other), (own, other))
    along = sum(float((g * v).sum()) for g, v in zip(gradients, (own, other), strict=True))
    assert along == pytest.approx(0, abs=1e-5) and gradients[0].abs().max() > 0.01


def test_it_sees_neither_shifts_nor_the_scale_of_both() -> None:
    own, other = torch.randn(8, 4), torch.randn(9, 4) * 2
    once = float(covariance_distance(own, other))
    assert float(covariance_distance(own * 7 + 3, other * 7 - 5)) == pytest.approx(once, rel=1e-4)
    assert float(covariance_distance(own, own + 2)) == pytest.approx(0, abs=1e-6)


def test_a_single_image_has_no_covariance() -> None:
    own = torch.randn(1, 4, requires_grad=True)
    covariance_distance(own, torch.randn(5, 4)).backward()
    assert own.grad is not None and not own.grad.any()


def test_single_images_are_warned_of_in_the_first_step(
    bench: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    at = bench("coral")
    batch = at.joined(at.batch([0]), torch.randn(3, 3, 8, 8))
    at.parts(batch)
    assert "'coral' has no effect in batches of 1; it needs 2 images or more" in caplog.text


def test_equal_images_leave_the_gradient_finite() -> None:
    own = torch.ones(4, 3, requires_grad=True)
    covariance_distance(own, torch.ones(4, 3)).backward()
    assert own.grad is not None and own.grad.isfinite().all()

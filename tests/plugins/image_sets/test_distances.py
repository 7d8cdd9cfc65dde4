"""Distances of generated from real images have the values of their papers, and of torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from visiongraft.plugins.image_sets.distances import (
    frechet_distance,
    kernel_distance,
    precision_and_recall,
)

RANDOM = np.random.default_rng(0)
REAL, DRAWN = RANDOM.normal(size=(40, 6)), RANDOM.normal(0.5, 2.0, size=(30, 6))
FEW = RANDOM.normal(size=(4, 6)), RANDOM.normal(1.0, size=(3, 6))


class Given(nn.Module):
    """Returns features that it is given as images."""

    num_features = 6

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


@pytest.mark.parametrize("pair", [(REAL, DRAWN), FEW], ids=["many", "fewer than features"])
def test_the_frechet_distance_is_that_of_torchmetrics(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    image = pytest.importorskip("torchmetrics.image.fid")
    metric = image.FrechetInceptionDistance(Given())
    for values, real in zip(pair, (True, False), strict=True):
        metric.update(torch.from_numpy(values), real=real)
    assert frechet_distance(*pair) == pytest.approx(metric.compute().item(), rel=1e-4)


def test_the_kernel_distance_is_that_of_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.image.kid")
    real = REAL[: len(DRAWN)]
    metric = image.KernelInceptionDistance(Given(), subsets=1, subset_size=len(real))
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(DRAWN), real=False)
    assert kernel_distance(real, DRAWN) == pytest.approx(metric.compute()[0].item(), rel=1e-4)


def test_equal_images_have_no_distance() -> None:
    assert frechet_distance(REAL, REAL) == pytest.approx(0, abs=1e-9)
    assert kernel_distance(REAL, REAL[::-1]) < 0


def test_one_image_has_finite_distances() -> None:
    one, other = REAL[:1], DRAWN[:1]
    assert frechet_distance(one, other) == pytest.approx(np.square(one - other).sum())
    assert kernel_distance(one, one) == pytest.approx(0)
    assert precision_and_recall(one, one) == (1.0, 1.0)
    assert precision_and_recall(one, other) == (0.0, 0.0)


def test_a_collapsed_generator_has_precision_but_no_recall() -> None:
    line = np.arange(20.0)[:, None]
    assert precision_and_recall(line, np.full((10, 1), 7.3)) == (1.0, 0.0)
    assert precision_and_recall(line, line + 100) == (0.0, 0.0)

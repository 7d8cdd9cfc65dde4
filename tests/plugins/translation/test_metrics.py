"""PSNR and SSIM are those of torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from visiongraft.errors import DataError
from visiongraft.plugins.translation.metrics import BEST_PSNR, ImageMetrics, psnr, ssim


def pair(height: int, width: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(height)
    rows, columns = np.mgrid[:height, :width] / 7
    wanted = np.stack([np.sin(rows + i) * np.cos(columns) / 2 + 0.5 for i in range(3)])
    return (wanted + noise * random.normal(size=wanted.shape)).clip(0, 1), wanted


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("size", [(11, 11), (24, 40), (33, 17)], ids=str)
def test_metrics_agree_with_torchmetrics(size: tuple[int, int], noise: float) -> None:
    made, wanted = pair(*size, noise)
    tensors = [torch.from_numpy(values)[None] for values in (made, wanted)]
    expected: Any = structural_similarity_index_measure(*tensors, data_range=1.0)
    assert ssim(made, wanted) == pytest.approx(float(expected), abs=1e-6)
    other = peak_signal_noise_ratio(*tensors, data_range=1.0)
    assert psnr(made, wanted) == pytest.approx(float(other), abs=1e-4)  # float32


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 30)], ids=str)
def test_images_of_a_few_pixels_are_measured(size: tuple[int, int]) -> None:
    made, wanted = pair(*size, 0.2)
    assert ssim(wanted, wanted) == pytest.approx(1.0)
    assert -1 <= ssim(made, wanted) < 1


def test_equal_images_have_the_best_psnr() -> None:
    wanted = pair(8, 8, 0)[1]
    assert psnr(wanted, wanted) == BEST_PSNR


def test_images_of_several_sizes_count_alike() -> None:
    metrics = ImageMetrics()
    targets = [np.zeros((4, 5, 3), np.uint8), np.zeros((30, 20, 3), np.uint8)]
    for target, value in zip(targets, (0.0, 0.5), strict=True):
        image = np.full((1, 3, *target.shape[:2]), value, np.float32)
        metrics.update({"image": image}, [target])
    assert metrics.compute()["l1"] == pytest.approx(0.25)


def test_a_target_of_another_size_cannot_be_measured() -> None:
    with pytest.raises(DataError, match="a target has 4x5 pixels, but its image has 4x6"):
        ImageMetrics().update({"image": np.zeros((1, 3, 4, 6))}, [np.zeros((4, 5, 3), "u1")])


def test_a_feature_network_compares_all_images_with_all_targets() -> None:
    random = np.random.default_rng(0)
    targets = [random.integers(0, 256, (20, 24, 3)).astype(np.uint8) for _ in range(4)]
    found = []
    for noise in (0.0, 0.5):
        metrics = ImageMetrics("bundled/efficientnet_lite0", 32)
        for target in targets:
            image = target.transpose(2, 0, 1)[None] / np.float32(255)
            metrics.update({"image": (1 - noise) * image + noise}, [target])
        found.append(metrics.compute())
    assert found[0]["fid"] == pytest.approx(0, abs=1e-6) and found[0]["ssim"] == pytest.approx(1)
    assert found[1]["fid"] > 1 and found[1]["kid"] > found[0]["kid"]
    assert ImageMetrics().sets is None


def test_no_images_cannot_be_measured() -> None:
    with pytest.raises(DataError, match="no images to evaluate"):
        ImageMetrics().compute()

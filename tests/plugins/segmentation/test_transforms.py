"""Masks stay aligned with their objects under augmentation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from visiongraft.plugins.segmentation.transforms import TrainTransform
from visiongraft.seeds import seeded

IGNORED = 255


def scene(height: int = 90, width: int = 140) -> tuple[tv_tensors.Image, np.ndarray]:
    """Bright discs on a dark ground, and their mask."""
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    for top, left, radius in ((25, 30, 16), (60, 95, 20), (70, 25, 10)):
        mask[(y - top) ** 2 + (x - left) ** 2 < radius**2] = 1
    pixels = np.where(mask == 1, 230, 20).astype(np.uint8)
    return tv_tensors.Image(torch.tensor(pixels).expand(3, height, width).clone()), mask


def disagreement(transform: TrainTransform, seed: int) -> float:
    """Return the fraction of pixels where brightness and mask disagree."""
    image, mask = scene()
    with seeded(seed):
        changed, moved = transform(image, mask)
    counted = moved != IGNORED
    gray = changed.float().mean(0)
    bright = gray > (gray[counted].min() + gray[counted].max()) / 2
    if len(moved[counted].unique()) < 2:  # nothing of the ground or of the discs is shown
        return 0.0
    return float((bright != (moved == 1))[counted].float().mean())


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("strength", ["light", "strong"])
def test_masks_stay_aligned_with_their_objects(strength: str, whole: bool) -> None:
    transform = TrainTransform((64, 96), strength, flip=True, ignored=IGNORED, whole=whole)
    assert np.mean([disagreement(transform, seed) for seed in range(30)]) < 0.015


def test_a_mask_that_is_not_flipped_with_its_image_is_detected() -> None:
    class Forgetful(TrainTransform):
        def __call__(self, image: object, target: object) -> tuple[object, object]:
            changed, mask = super().__call__(image, target)
            return changed.flip(-1), mask

    transform = Forgetful((64, 96), "light", flip=False, ignored=IGNORED)
    assert np.mean([disagreement(transform, seed) for seed in range(10)]) > 0.1


def test_sizes_and_types() -> None:
    image, mask = scene()
    for target in (mask, mask.astype(np.int32), np.stack([mask, 1 - mask])):
        changed, moved = TrainTransform((32, 48), "strong", True, IGNORED)(image, target)
        assert changed.shape == (3, 32, 48) and changed.dtype == torch.uint8
        assert isinstance(moved, tv_tensors.Mask)
        assert moved.shape == (*target.shape[:-2], 32, 48)
        assert moved.numpy().dtype == target.dtype
        assert set(moved.unique().tolist()) <= {0, 1, IGNORED}


def test_padding_is_ignored() -> None:
    image, mask = scene(20, 20)
    transform = TrainTransform((64, 64), "light", False, IGNORED, whole=False)
    changed, moved = transform(image, mask)
    assert 0.5 < float((moved == IGNORED).float().mean()) < 1
    beyond = changed.float().mean(0)[moved == IGNORED]
    assert float(beyond.std()) < float(image.float().std()) / 2


def test_crops_keep_the_scale_of_the_image() -> None:
    areas = {}
    for whole in (True, False):
        transform = TrainTransform((100, 100), "light", False, IGNORED, whole)
        regions = []
        for seed in range(60):
            with seeded(seed):
                regions.append(transform._region(400, 400)[2:])
        areas[whole] = np.exp(np.mean(np.log(regions)))
    assert areas[True] == pytest.approx(400 / 1.1, rel=0.1)
    assert areas[False] == pytest.approx(100 / 1.1, rel=0.1)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels_keep_their_values(channels: int) -> None:
    image = tv_tensors.Image(torch.full((channels, 40, 40), 77, dtype=torch.uint8))
    changed, _ = TrainTransform((32, 32), "strong", True, IGNORED)(image, np.zeros((40, 40), "u1"))
    assert changed.shape[0] == channels
    assert channels == 1 or changed.unique().tolist() == [77]


def test_flips_can_be_disabled() -> None:
    image = tv_tensors.Image(torch.arange(64, dtype=torch.uint8).expand(3, 32, 64).clone())
    mask = np.zeros((32, 64), np.uint8)
    for flip, expected in ((False, {True}), (True, {True, False})):
        transform = TrainTransform((32, 64), "light", flip, IGNORED)
        found = set()
        for seed in range(12):
            with seeded(seed):
                changed, moved = transform(image, mask)
            row = changed[0, 16][moved[16] == 0]
            found.add(bool(row[-1] > row[0]))
        assert found == expected


def test_it_can_be_pickled_and_is_seeded() -> None:
    transform = pickle.loads(pickle.dumps(TrainTransform((32, 32), "strong", True, IGNORED)))
    results = []
    for seed in (1, 1, 2):
        with seeded(seed):
            results.append(transform(*scene()))
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[0][0], results[2][0])

from __future__ import annotations

from typing import Any

import pytest
import skimage.data
import torch
from torch import Tensor
from torchvision import tv_tensors

from visiongraft.plugins.whole_images.transforms import TrainTransform

SIZE = (24, 40)
STRENGTHS = ["light", "strong"]


def photograph(channels: int = 3) -> Tensor:
    """A cat; channels beyond the third repeat the first ones."""
    pixels = torch.from_numpy(skimage.data.chelsea()[::4, ::4].copy()).permute(2, 0, 1)
    return tv_tensors.Image(torch.cat([pixels, pixels])[:channels])


def changed(transform: TrainTransform, original: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    image: Tensor = transform(original, 0)[0]
    return image


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_images_with_any_channels_get_the_size_and_stay_uint8(strength: str, channels: int) -> None:
    transform = TrainTransform(SIZE, strength)
    for seed in range(30):  # RandAugment draws among fourteen operations
        image = changed(transform, photograph(channels), seed)
        assert image.shape == (channels, *SIZE)
        assert image.dtype == torch.uint8


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)], ids=str)
def test_tiny_and_narrow_images_are_enlarged(strength: str, shape: tuple[int, int]) -> None:
    image = tv_tensors.Image(torch.full((3, *shape), 90, dtype=torch.uint8))
    transform = TrainTransform(SIZE, strength)
    for seed in range(10):
        assert changed(transform, image, seed).shape == (3, *SIZE)


@pytest.mark.parametrize("target", [3, (0, 2), ()], ids=str)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_target_is_unchanged(strength: str, target: Any) -> None:
    assert TrainTransform(SIZE, strength)(photograph(), target)[1] is target


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_augmentation_is_seeded(strength: str, channels: int) -> None:
    transform = TrainTransform(SIZE, strength)
    image = photograph(channels)
    first, again, other = (changed(transform, image, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("channels", [3, 4])
def test_the_input_image_is_not_modified(channels: int) -> None:
    image = photograph(channels)
    before = image.clone()
    changed(TrainTransform(SIZE, "strong"), image, 0)
    assert torch.equal(image, before)


def ramp() -> Tensor:
    """Four channels: brightness from left to right, from top to bottom, and two constants."""
    image = torch.full((4, 100, 100), 100, dtype=torch.uint8)
    image[0] = torch.arange(50, 150).view(1, 100)
    image[1] = torch.arange(50, 150).view(100, 1)
    return tv_tensors.Image(image)


def share_seen(image: Tensor) -> float:
    """How much of the ramp's area is visible; pixels of value 0 do not count."""
    spans = [channel[channel > 0].float() for channel in image[:2]]
    across, down = (float(s.max() - s.min() + 1) / 100 for s in spans)
    return across * down


def test_light_crops_keep_half_of_the_area_or_more_and_strong_ones_a_quarter() -> None:
    seen = {
        strength: [
            share_seen(changed(TrainTransform((64, 64), strength), ramp(), i)) for i in range(60)
        ]
        for strength in STRENGTHS
    }
    assert 0.45 < min(seen["light"]) < 0.6
    assert 0.2 < min(seen["strong"]) < 0.4
    assert max(seen["light"]) > 0.9


def mirrored(image: Tensor) -> bool:
    return bool(image[0, 16, 10] > image[0, 16, 22])  # off the corners, which may be empty


@pytest.mark.parametrize("strength", STRENGTHS)
def test_half_of_the_images_are_flipped_unless_flip_is_off(strength: str) -> None:
    def turned(flip: bool) -> int:
        transform = TrainTransform((32, 32), strength, flip=flip)
        return sum(mirrored(changed(transform, ramp(), seed)) for seed in range(60))

    assert 15 <= turned(True) <= 45
    assert turned(False) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_colors_of_1_and_3_channels_change(channels: int) -> None:
    plain = tv_tensors.Image(torch.full((channels, 30, 30), 100, dtype=torch.uint8))
    seen = {int(changed(TrainTransform(SIZE, "light"), plain, s).float().mean()) for s in range(20)}
    assert len(seen) > 5
    assert all(80 <= value <= 120 for value in seen)


def test_other_numbers_of_channels_keep_their_values() -> None:
    for seed in range(20):
        image = changed(TrainTransform(SIZE, "light"), ramp(), seed)
        assert (image[2:] == 100).all()


def test_strong_rotates_images_with_other_channels() -> None:
    images = [changed(TrainTransform(SIZE, "strong"), ramp(), seed) for seed in range(20)]
    assert all(set(image[2:].unique().tolist()) <= {0, 100} for image in images)
    assert any((image[2:] == 0).any() for image in images)

from __future__ import annotations

from typing import Any

import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision import tv_tensors

from visiongraft.plugins.classification.transforms import TrainTransform, mix_batch

SIZE = (24, 40)
STRENGTHS = ["light", "strong"]
CLASSES = 4


def photograph(channels: int = 3) -> Tensor:
    """A cat; channels beyond the third repeat the first ones."""
    pixels = torch.from_numpy(skimage.data.chelsea()[::4, ::4].copy()).permute(2, 0, 1)
    return tv_tensors.Image(torch.cat([pixels, pixels])[:channels])


def changed(transform: TrainTransform, original: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    image: Tensor = transform(original, 0)[0]
    return image


# ---- one image ----


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


# ---- between the images of a batch ----


def colored(ids: Tensor) -> Tensor:
    """Images that show their target: the channel of each class is 1 all over."""
    return one_hot(ids, CLASSES).float()[..., None, None].expand(-1, -1, 12, 10).clone()


@given(
    st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=6),
    st.sampled_from([(0.2, 0.0), (0.0, 1.0), (1.0, 0.5), (50.0, 0.0), (0.0, 50.0)]),
    st.integers(0, 1000),
)
def test_targets_are_mixed_like_images(
    ids: list[int], parameters: tuple[float, float], seed: int
) -> None:
    mixup, cutmix = parameters
    targets = torch.tensor(ids)
    torch.manual_seed(seed)
    images, mixed = mix_batch(
        colored(targets), targets, classes=CLASSES, mixup=mixup, cutmix=cutmix
    )
    assert mixed.shape == (len(ids), CLASSES)
    assert mixed.dtype == torch.float32
    assert torch.allclose(mixed.sum(dim=1), torch.ones(len(ids)))
    assert torch.allclose(images.mean(dim=(2, 3)), mixed, atol=1e-5)


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, 0.0), (0.0, 1.0)])
def test_multi_hot_targets_are_mixed_like_images(mixup: float, cutmix: float) -> None:
    multi_hot = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
    images = multi_hot[..., None, None].expand(-1, -1, 12, 10).clone()
    torch.manual_seed(3)
    images, mixed = mix_batch(images, multi_hot, classes=CLASSES, mixup=mixup, cutmix=cutmix)
    assert not torch.equal(mixed, multi_hot)
    assert ((mixed >= 0) & (mixed <= 1)).all()
    assert torch.allclose(images.mean(dim=(2, 3)), mixed, atol=1e-5)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixing_is_seeded(mixup: float, cutmix: float) -> None:
    ids = torch.arange(4)

    def mix(seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        return mix_batch(colored(ids), ids, classes=CLASSES, mixup=mixup, cutmix=cutmix)

    first, again, other = mix(1), mix(1), mix(2)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_with_mixup_and_cutmix_each_batch_gets_one_of_them() -> None:
    ids = torch.arange(4)
    pasted = 0
    for seed in range(40):
        torch.manual_seed(seed)
        images, _ = mix_batch(colored(ids), ids, classes=CLASSES, mixup=1.0, cutmix=1.0)
        pasted += bool(((images == 0) | (images == 1)).all())  # blending gives values between
    assert 8 <= pasted <= 32


def test_without_parameters_nothing_changes() -> None:
    ids = torch.arange(4)
    images = colored(ids)
    mixed, targets = mix_batch(images, ids, classes=CLASSES, mixup=0, cutmix=0)
    assert mixed is images
    assert targets is ids


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, 0.0), (0.0, 1.0)])
def test_mixing_does_not_modify_its_inputs(mixup: float, cutmix: float) -> None:
    ids = torch.arange(4)
    images, multi_hot = colored(ids), one_hot(ids, CLASSES).float()
    torch.manual_seed(0)
    mix_batch(images, multi_hot, classes=CLASSES, mixup=mixup, cutmix=cutmix)
    assert torch.equal(images, colored(ids))
    assert torch.equal(multi_hot, one_hot(ids, CLASSES).float())

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from visiongraft.plugins.classification.mixing import mix_batch

CLASSES = 4


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

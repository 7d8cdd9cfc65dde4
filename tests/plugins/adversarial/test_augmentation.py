"""What a critic sees is augmented at random, differentiably, each image in its own way."""

from __future__ import annotations

import pytest
import torch

from visiongraft.plugins.adversarial.augmentation import AUGMENTATIONS, augment


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_each_image_is_changed_in_its_own_way(kind: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 3, 16, 24).expand(4, -1, -1, -1).clone().requires_grad_()
    changed = augment(images, [kind])
    assert changed.shape == images.shape
    assert len({tuple(one.flatten().tolist()) for one in changed}) > 1
    changed.square().sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_nothing_is_changed_without_kinds() -> None:
    images = torch.randn(2, 1, 4, 4)
    assert augment(images, ()) is images


def test_images_move_by_whole_pixels_and_gaps_are_filled_with_zeros() -> None:
    torch.manual_seed(1)
    images = torch.arange(1.0, 65.0).view(1, 1, 8, 8).expand(50, 2, -1, -1)
    moved = augment(images, ["translation"])
    offsets = set()
    for image in moved:
        middle = int(image[0, 4, 4])
        down, right = 4 - (middle - 1) // 8, 4 - (middle - 1) % 8
        expected = torch.zeros(8, 8)
        rows = slice(max(down, 0), 8 + min(down, 0))
        columns = slice(max(right, 0), 8 + min(right, 0))
        source = images[0, 0].roll((down, right), (0, 1))
        expected[rows, columns] = source[rows, columns]
        assert torch.equal(image[0], expected) and torch.equal(image[1], expected)
        offsets.add((down, right))
    assert len(offsets) == 9


def test_a_rectangle_is_cut_out() -> None:
    torch.manual_seed(0)
    cut = augment(torch.ones(30, 1, 8, 8), ["cutout"])
    removed = (cut == 0).sum((1, 2, 3))
    assert removed.max() == 16 and removed.min() >= 4

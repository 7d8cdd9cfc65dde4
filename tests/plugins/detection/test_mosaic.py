"""Mosaics of four images: boxes stay on their objects, and batches without mosaics stay as they are."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from visiongraft.plugins.detection.mosaic import mosaic
from visiongraft.plugins.detection.objects import Objects
from visiongraft.seeds import seeded

HEIGHT, WIDTH = 64, 96


def batch(count: int, seed: int, scale: float = 1.0) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Draw a bright object of each image's own brightness on black, annotated on an image `scale` times as large."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = torch.zeros(count, 3, HEIGHT, WIDTH), []
    for i in range(count):
        x, y = (int(torch.randint(side - 24, (), generator=generator)) for side in (WIDTH, HEIGHT))
        images[i, :, y : y + 24, x : x + 24] = i + 1
        box = tuple(scale * v for v in (x, y, x + 24, y + 24))
        size = (round(scale * HEIGHT), round(scale * WIDTH))
        crowd = (0.0, 0.0, scale * 8, scale * 8)
        targets.append(Objects((box, crowd), (i, 0), size, (False, True), (1.0, 1.0)).tensors())
    return images, targets


@given(st.integers(0, 10_000), st.sampled_from([1.0, 2.5]))
def test_each_box_of_a_mosaic_holds_only_the_object_of_its_class(seed: int, scale: float) -> None:
    images, targets = batch(5, seed, scale)
    with seeded(seed):
        mixed, found = mosaic(images, targets, 1.0)
    assert mixed.shape == images.shape
    for image, target in zip(mixed, found, strict=True):
        assert target["size"].tolist() == [HEIGHT, WIDTH]
        assert not target["crowd"].any()
        for (x1, y1, x2, y2), label in zip(
            target["boxes"].round().int().tolist(), target["labels"].tolist(), strict=True
        ):
            inside = image[0, y1:y2, x1:x2]
            assert (inside == label + 1).float().mean() > 0.9


def test_objects_of_which_little_is_left_have_no_box_and_the_others_keep_theirs() -> None:
    for seed in range(50):
        images, targets = batch(4, seed)
        with seeded(seed):
            mixed, found = mosaic(images, targets, 1.0)
        for image, target in zip(mixed, found, strict=True):
            for label in range(4):
                rows, columns = (image[0] == label + 1).nonzero(as_tuple=True)
                boxes = target["boxes"][target["labels"] == label]
                assert (boxes[:, 2:] <= torch.tensor([WIDTH, HEIGHT])).all()
                if len(rows) < 0.2 * 24 * 24:
                    assert len(boxes) == 0
                elif len(rows) == 24 * 24 and rows.max() - rows.min() == 23:
                    corner = [float(columns.min()), float(rows.min())]
                    assert boxes.tolist() == [[*corner, corner[0] + 24, corner[1] + 24]]


def test_the_fraction_of_mosaics_is_as_asked_and_the_batch_itself_is_unchanged() -> None:
    images, targets = batch(4, seed=0)
    before, changed = images.clone(), 0
    for seed in range(100):
        with seeded(seed):
            _, found = mosaic(images, targets, 0.5)
        changed += sum(a is not b for a, b in zip(found, targets, strict=True))
    assert 150 < changed < 250
    assert torch.equal(images, before)
    mixed, found = mosaic(images, targets, 0.0)
    assert torch.equal(mixed, images)
    assert all(a is b for a, b in zip(found, targets, strict=True))

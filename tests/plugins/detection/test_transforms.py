"""Augmentation: boxes stay on their objects."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from torchvision import tv_tensors

from visiongraft.plugins.detection.objects import Objects
from visiongraft.plugins.detection.transforms import TrainTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.seeds import seeded

COLORS = {0: (255, 0, 0), 1: (0, 255, 0), 2: (0, 0, 255)}
SIZE = (96, 128)
PREPROCESS = PreprocessConfig(SIZE, resize="stretch")
LETTERBOX = PreprocessConfig((96, 96), resize="letterbox")


def scene(seed: int, scale: int = 1) -> tuple[Any, Objects]:
    """Draw rectangles of one color per class on a dark photograph; they do not overlap."""
    random = np.random.default_rng(seed)
    pixels = (skimage.data.astronaut()[:240, :320] // 4).copy()
    boxes, labels = [], []
    for position in range(int(random.integers(1, 5))):
        w, h = (int(v) for v in random.integers(40, 110, 2))
        x = 160 * (position % 2) + int(random.integers(0, 160 - w))
        y = 120 * (position // 2) + int(random.integers(0, 120 - h))
        label = int(random.integers(3))
        pixels[y : y + h, x : x + w] = COLORS[label]
        boxes.append((float(x), float(y), float(x + w), float(y + h)))
        labels.append(label)
    pixels = np.repeat(np.repeat(pixels, scale, 0), scale, 1)
    image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
    scaled = tuple(tuple(v * scale for v in box) for box in boxes)
    n = len(boxes)
    target = Objects(scaled, tuple(labels), (240 * scale, 320 * scale), (False,) * n, (1.0,) * n)  # type: ignore[arg-type]
    return image, target


def fraction_of_color(image: torch.Tensor, box: Any, label: int) -> float:
    """Return the fraction of a box, without its border, that has the object's color."""
    x1, y1, x2, y2 = (round(v) for v in box)
    inside = image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].float()
    if inside.numel() == 0:
        return 1.0
    return float((inside.argmax(0) == label).float().mean())


@pytest.mark.parametrize("strength", ["light", "strong"])
@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("config", [PREPROCESS, LETTERBOX], ids=["stretch", "letterbox"])
def test_boxes_stay_on_their_objects(config: PreprocessConfig, strength: str, scale: int) -> None:
    transform = TrainTransform(config, strength)
    # Strong color changes swap channels; the geometry alone must keep the colors.
    transform._colors = lambda image: image  # type: ignore[assignment]
    seen, changed = 0, 0
    for seed in range(30):
        image, target = scene(seed, scale)
        with seeded(seed):
            moved, found = transform(image, target)
        assert moved.shape == (3, *config.size) and moved.dtype == torch.uint8
        assert found.size == config.size
        for box, label in zip(found.boxes, found.labels, strict=True):
            assert 0 <= box[0] < box[2] <= config.size[1] and 0 <= box[1] < box[3] <= config.size[0]
            assert fraction_of_color(moved, box, label) > 0.93
            seen += 1
        squeezed = target.boxes[0][0] * SIZE[1] / target.size[1]
        changed += not found.boxes or abs(found.boxes[0][0] - squeezed) > 2
    assert seen > 40 and changed > 15


def test_a_box_that_is_not_transformed_would_be_detected() -> None:
    image, target = scene(0)
    assert min(map(fraction_of_color, [image] * 9, target.boxes, target.labels)) > 0.99
    flipped = image.flip(2)
    assert min(map(fraction_of_color, [flipped] * 9, target.boxes, target.labels)) < 0.9


def test_colors_change_but_only_where_they_are_defined() -> None:
    image, target = scene(1)
    for strength in ("light", "strong"):
        transform = TrainTransform(PREPROCESS, strength)
        means = []
        for seed in range(6):
            with seeded(seed):
                means.append(transform(image, target)[0].float().mean().item())
        assert np.std(means) > 1
        gray = tv_tensors.Image(torch.cat([image, image[:1]]))
        assert transform(gray, target)[0].shape == (4, *SIZE)


def test_flipping_can_be_disabled() -> None:
    transform = TrainTransform(PREPROCESS, "light", flip=False)
    from torchvision.transforms import v2

    names = [type(step) for step in transform._geometry.transforms]
    assert v2.RandomHorizontalFlip not in names
    assert v2.RandomHorizontalFlip in [
        type(step) for step in TrainTransform(PREPROCESS, "light")._geometry.transforms
    ]


def test_a_crop_never_loses_its_last_object() -> None:
    left = Objects(((0.0, 0.0, 100.0, 240.0),), (0,), (240, 320), (False,), (1.0,))
    image, _ = scene(0)
    transform = TrainTransform(PREPROCESS, "light")
    for seed in range(60):
        with seeded(seed):
            assert transform(image, left)[1].labels == (0,)


def test_images_without_objects_and_crowds_are_accepted() -> None:
    image, _ = scene(0)
    nothing = Objects((), (), (240, 320), (), ())
    crowd = Objects(((10.0, 10.0, 90.0, 90.0),), (1,), (240, 320), (True,), (1.0,))
    for target in (nothing, crowd):
        for strength in ("light", "strong"):
            for seed in range(5):
                with seeded(seed):
                    moved, found = TrainTransform(PREPROCESS, strength)(image, target)
                assert moved.shape == (3, *SIZE)
                assert found == Objects((), (), SIZE, (), ())


def test_the_transform_is_seeded_and_can_be_pickled() -> None:
    transform = pickle.loads(pickle.dumps(TrainTransform(PREPROCESS, "strong")))
    image, target = scene(2)
    results = []
    for _ in range(2):
        with seeded(5):
            results.append(transform(image, target))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]


def test_a_letterbox_keeps_the_aspect_ratio_of_objects() -> None:
    """Without augmentation at random, a square stays a square, also in an image that is shrunk first."""
    for scale in (1, 4):
        pixels = torch.zeros(3, 120 * scale, 240 * scale, dtype=torch.uint8)
        box = tuple(20.0 * scale * side for side in (1, 1, 3, 3))
        size = (120 * scale, 240 * scale)
        target = Objects((box,), (0,), size, (False,), (1.0,))  # type: ignore[arg-type]
        transform = TrainTransform(LETTERBOX, "light", flip=False)
        steps = transform._geometry.transforms
        steps[:2] = []  # zooming and cropping
        _, found = transform(tv_tensors.Image(pixels), target)
        assert found.boxes[0] == pytest.approx((8, 8, 24, 24), abs=0.3)

"""Which images are used: rare classes first, then in proportion."""

from __future__ import annotations

import numpy as np
import torch

from visiongraft.advice.sampling import balanced_order, labels_of
from visiongraft.data.images import DatasetSamples


def test_two_images_of_each_class_come_first() -> None:
    labels = np.array([0] * 50 + [1] * 2 + [2] * 48)
    first = labels[balanced_order(labels, 100, seed=0)][:6]
    assert sorted(first.tolist()) == [0, 0, 1, 1, 2, 2]


def test_each_prefix_is_in_proportion() -> None:
    labels = np.array([0] * 75 + [1] * 25)
    order = balanced_order(labels, 100, seed=0)
    assert sorted(order.tolist()) == list(range(100))
    for size in (20, 40, 80):
        assert abs(int((labels[order[:size]] == 1).sum()) - size / 4) <= 2


def test_without_classes_the_order_is_random_and_reproducible() -> None:
    one, same, other = (balanced_order(None, 50, seed).tolist() for seed in (0, 0, 1))
    assert one == same != other
    assert sorted(one) == list(range(50))


def test_only_one_class_id_per_image_is_a_label(Toy: type) -> None:
    images = [(np.zeros((8, 8, 3), np.uint8), target) for target in (0, 2, 1)]
    labels = labels_of(Toy(), DatasetSamples.of(images))
    assert labels is not None and labels.tolist() == [0, 2, 1]
    several = DatasetSamples.of([(image, torch.zeros(2)) for image, _ in images])
    assert labels_of(Toy(), several) is None

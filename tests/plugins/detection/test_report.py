"""The report of a detector: detections are matched with objects as one would by hand."""

from __future__ import annotations

import numpy as np
import torch

from visiongraft.plugins.detection.matching import match_objects
from visiongraft.plugins.detection.report import confusion_counts

LEFT, RIGHT = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]


def target(
    boxes: list[list[float]], labels: list[int], crowd: list[bool]
) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor(boxes).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "crowd": torch.tensor(crowd, dtype=torch.bool),
    }


def matched(
    boxes: list[list[float]], labels: list[int], objects: dict[str, torch.Tensor]
) -> list[tuple[int, int]]:
    scores = np.linspace(0.9, 0.5, len(boxes)).astype(np.float32)
    found = match_objects(np.array(boxes, np.float32), scores, np.array(labels), objects)
    return [(label, true) for _, label, true in found]


def test_each_object_is_found_once() -> None:
    assert matched([LEFT, LEFT, RIGHT], [0, 0, 1], target([LEFT], [0], [False])) == [
        (0, 0),
        (0, -1),
        (1, -1),
    ]


def test_an_object_of_the_same_class_is_preferred() -> None:
    objects = target([LEFT, [0.0, 0.0, 10.0, 9.0]], [1, 0], [False, False])
    assert matched([LEFT, LEFT], [0, 1], objects) == [(0, 0), (1, 1)]


def test_detections_of_a_crowd_count_neither_as_right_nor_as_wrong() -> None:
    assert matched([LEFT, RIGHT], [0, 0], target([LEFT], [0], [True])) == [(0, -1)]


def test_an_image_without_objects_has_only_false_detections() -> None:
    assert matched([LEFT], [0], target([], [], [])) == [(0, -1)]


def test_missed_objects_and_false_detections_are_counted_with_background() -> None:
    counts = confusion_counts([0, 1, 1], [0, 0, -1], np.array([3, 1]))
    assert counts.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0]]

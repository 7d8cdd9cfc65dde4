"""Detections of two runtimes: what is tolerated, and that planted faults are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from visiongraft.plugins.detection.compare import compare_detections
from visiongraft.plugins.detection.models.selection import Limits
from visiongraft.plugins.detection.task import Detection

SLOTS = 45
LIMITS = Limits(0.05, 0.5, SLOTS)
TOLERANCE = 1e-4

Arrays = dict[str, NDArray[Any]]
Row = tuple[float, int, tuple[float, float, float, float]]  # score, class id, box


def decoded(*images: list[Row], slots: int = SLOTS) -> Arrays:
    """Return detections as ``decode`` does, sorted by score."""
    arrays: Arrays = {
        "boxes": np.zeros((len(images), slots, 4), np.float32),
        "scores": np.zeros((len(images), slots), np.float32),
        "labels": np.full((len(images), slots), -1, np.int64),
        "count": np.array([len(rows) for rows in images], np.int64),
    }
    for i, rows in enumerate(images):
        for j, (score, label, box) in enumerate(sorted(rows, key=lambda row: -row[0])):
            arrays["boxes"][i, j], arrays["scores"][i, j], arrays["labels"][i, j] = (
                box,
                score,
                label,
            )
    return arrays


def scene(seed: int, count: int = 8, shift: float = 0.0) -> list[Row]:
    """Make detections that do not overlap: one in each cell of a grid of 100 pixels."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for i in range(count):
        x, y = 100.0 * (i % 5) + shift, 100.0 * (i // 5) + shift
        w, h = random.uniform(30, 95, 2)
        score = float(random.uniform(0.1, 0.99))
        rows.append((score, int(random.integers(3)), (x, y, x + float(w), y + float(h))))
    return rows


def compared(one: Arrays, other: Arrays) -> tuple[float, int]:
    result = compare_detections(one, other, LIMITS)
    return result.difference, result.mismatches


def agrees(one: Arrays, other: Arrays) -> bool:
    difference, mismatches = compared(one, other)
    return mismatches == 0 and difference <= TOLERANCE


@given(st.integers(0, 10**6), st.integers(0, 20))
def test_detections_agree_with_themselves_in_any_order_of_equals(seed: int, count: int) -> None:
    rows = [(0.5, label, box) for _, label, box in scene(seed, count)]
    assert compared(decoded(rows), decoded(rows[::-1])) == (0, 0)


def test_rounding_agrees_and_counts_into_the_difference() -> None:
    rows = scene(0)
    moved = [(s + 2e-6, label, tuple(v + 0.01 for v in box)) for s, label, box in rows]
    difference, mismatches = compared(decoded(rows), decoded(moved))  # type: ignore[arg-type]
    assert mismatches == 0 and 5e-6 < difference < 5e-5


# ---- what is tolerated ----


def test_a_score_at_the_threshold_may_be_on_either_side() -> None:
    rows = [*scene(0), (0.0504, 1, (450.0, 0.0, 480.0, 40.0))]
    assert agrees(decoded(rows), decoded(rows[:-1]))
    assert agrees(decoded(rows[:-1]), decoded(rows))
    clear = [*scene(0), (0.06, 1, (450.0, 0.0, 480.0, 40.0))]
    assert not agrees(decoded(clear), decoded(rows[:-1]))
    assert not agrees(decoded(rows[:-1]), decoded(clear))


def test_the_last_slot_may_hold_either_of_two_near_scores() -> None:
    rows = [(0.9 - 0.005 * i, 0, (10.0 * i, 0.0, 10.0 * i + 9, 9.0)) for i in range(SLOTS - 1)]
    first, second = (0.5, 1, (0.0, 50.0, 9.0, 59.0)), (0.4995, 1, (50.0, 50.0, 59.0, 59.0))
    assert agrees(decoded([*rows, first]), decoded([*rows, second]))
    far = (0.48, 1, (50.0, 50.0, 59.0, 59.0))
    assert not agrees(decoded([*rows, first]), decoded([*rows, far]))
    # With slots left, neither would have been dropped.
    assert not agrees(decoded([*rows[1:], first]), decoded([*rows[1:], second]))


def test_a_single_slot_is_not_the_last_of_many() -> None:
    one, other = ([(0.9, label, (0.0, 0.0, 50.0, 50.0))] for label in (0, 1))
    assert not agrees(decoded(one, slots=1), decoded(other, slots=1))


def test_an_overlap_at_the_threshold_may_suppress_or_not() -> None:
    better = (0.9, 0, (0.0, 500.0, 100.0, 600.0))
    at_limit = (0.6, 0, (0.0, 500.0, 50.02, 600.0))  # overlap 0.5002
    beyond = (0.6, 0, (0.0, 500.0, 60.0, 600.0))  # overlap 0.6
    rows = [*scene(0), better]
    assert agrees(decoded([*rows, at_limit]), decoded(rows))
    assert not agrees(decoded([*rows, beyond]), decoded(rows))


def test_either_of_two_nearly_equal_boxes_may_be_kept_with_its_consequences() -> None:
    many = scene(0, 20)
    left, right = (0.7, 0, (0.0, 500.0, 100.0, 600.0)), (0.7004, 0, (30.0, 500.0, 130.0, 600.0))
    follows = (0.6, 0, (70.0, 500.0, 170.0, 600.0))  # overlaps the right one alone by 0.43 ...
    close = (0.6, 0, (60.0, 500.0, 160.0, 600.0))  # ... and this one by 0.54
    assert agrees(decoded([*many, left, follows]), decoded([*many, right, follows]))
    assert agrees(decoded([*many, left, close]), decoded([*many, right]))
    assert not agrees(decoded([*many, left, (0.6, 1, close[2])]), decoded([*many, right]))


def test_many_such_alternatives_are_mismatches() -> None:
    left = [(0.7, 0, (0.0, 100.0 * i, 90.0, 100.0 * i + 90)) for i in range(5)]
    right = [(s, label, (box[0] + 20, box[1], box[2] + 20, box[3])) for s, label, box in left]
    assert not agrees(decoded(left), decoded(right))
    assert not agrees(decoded(left[:1]), decoded(right[:1]))


# ---- planted faults ----


def shifted(arrays: Arrays, pixels: float) -> Arrays:
    filled = arrays["labels"][..., None] >= 0
    return {**arrays, "boxes": arrays["boxes"] + filled * np.float32(pixels)}


def swapped_labels(arrays: Arrays) -> Arrays:
    labels = arrays["labels"]
    return {**arrays, "labels": np.where(labels >= 0, (labels + 1) % 3, labels)}


def one_label_off(arrays: Arrays) -> Arrays:
    labels = arrays["labels"].copy()
    labels[0, 0] = (labels[0, 0] + 1) % 3
    return {**arrays, "labels": labels}


def without_suppression(arrays: Arrays) -> Arrays:
    """Add a weaker, slightly shifted copy of each detection."""
    images = []
    for i, count in enumerate(arrays["count"]):
        rows = []
        for j in range(count):
            box, score = arrays["boxes"][i, j], float(arrays["scores"][i, j])
            label = int(arrays["labels"][i, j])
            rows += [(score, label, tuple(box)), (score * 0.8, label, tuple(box + 3))]
        images.append(rows)
    return decoded(*images)  # type: ignore[arg-type]


def dropped_images(arrays: Arrays) -> Arrays:
    """Keep only the first image's detections, as a graph that ignores the batch does."""
    rows = [
        (float(s), int(n), tuple(b))
        for s, n, b in zip(
            arrays["scores"][0], arrays["labels"][0], arrays["boxes"][0], strict=True
        )
        if n >= 0
    ]
    return decoded(rows, *([] for _ in arrays["count"][1:]))  # type: ignore[arg-type]


def repeated_image(arrays: Arrays) -> Arrays:
    return {name: np.repeat(values[:1], len(values), 0) for name, values in arrays.items()}


def network_scale(arrays: Arrays) -> Arrays:
    return {**arrays, "boxes": arrays["boxes"] * np.float32(320 / 480)}


def axes_swapped(arrays: Arrays) -> Arrays:
    return {**arrays, "boxes": arrays["boxes"][..., [1, 0, 3, 2]]}


def weaker_scores(arrays: Arrays) -> Arrays:
    return {**arrays, "scores": arrays["scores"] * np.float32(0.99)}


def count_too_low(arrays: Arrays) -> Arrays:
    return {**arrays, "count": arrays["count"] - 1}


def count_too_high(arrays: Arrays) -> Arrays:
    return {**arrays, "count": arrays["count"] + 1}


def not_a_number(arrays: Arrays) -> Arrays:
    boxes = arrays["boxes"].copy()
    boxes[0, 0, 0] = math.nan
    return {**arrays, "boxes": boxes}


def lacking_one(arrays: Arrays) -> Arrays:
    images = [
        [
            (
                float(arrays["scores"][i, j]),
                int(arrays["labels"][i, j]),
                tuple(arrays["boxes"][i, j]),
            )
            for j in range(i == 0, n)
        ]
        for i, n in enumerate(arrays["count"])
    ]
    return decoded(*images)  # type: ignore[arg-type]


FAULTS: list[Callable[[Arrays], Arrays]] = [
    lambda a: shifted(a, 0.6),
    lambda a: shifted(a, 0.3),
    lambda a: shifted(a, 5.0),
    lambda a: shifted(a, -40.0),
    swapped_labels,
    one_label_off,
    without_suppression,
    dropped_images,
    repeated_image,
    network_scale,
    axes_swapped,
    weaker_scores,
    count_too_low,
    count_too_high,
    not_a_number,
    lacking_one,
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("count", [1, 8, 20])
def test_a_planted_fault_is_caught(fault: Callable[[Arrays], Arrays], count: int) -> None:
    right = decoded(scene(0, count), scene(1, count), scene(2, count))
    assert agrees(right, {name: values.copy() for name, values in right.items()})
    assert not agrees(right, fault(right))
    assert not agrees(fault(right), right)


def test_more_than_half_a_pixel_is_a_mismatch_in_large_images_too() -> None:
    rows = [(0.9, 0, (9000.0, 9000.0, 9900.0, 9900.0))]
    near, far = (decoded([(0.9, 0, tuple(v + d for v in rows[0][2]))]) for d in (0.4, 0.6))  # type: ignore[misc]
    assert agrees(decoded(rows), near)
    assert compared(decoded(rows), far) == (0, 1)


def test_other_names_and_shapes_are_an_infinite_difference() -> None:
    one = decoded(scene(0))
    assert compared(one, {name: v for name, v in one.items() if name != "count"})[0] == math.inf
    assert compared(one, decoded(scene(0), slots=SLOTS + 1))[0] == math.inf


@pytest.mark.parametrize("size", [40.0, 400.0])
def test_corners_may_be_a_tenth_of_a_pixel_apart_and_no_more(size: float) -> None:
    box = (1.0, 2.0, size, size)
    near, far = (tuple(v + d for v in box) for d in (0.09, 0.2))
    reference = decoded([(0.9, 0, box)])  # type: ignore[list-item]
    close, off = (
        compare_detections(reference, decoded([(0.9, 0, moved)]), LIMITS)  # type: ignore[list-item]
        for moved in (near, far)
    )
    assert close.difference <= 1e-4 < off.difference
    assert close.mismatches == off.mismatches == 0


def test_scores_of_a_second_stage_may_be_ten_times_farther_apart_and_no_more() -> None:
    reference = decoded([(0.9, 0, (1.0, 2.0, 40.0, 40.0))])
    near, far = (decoded([(0.9 + d, 0, (1.0, 2.0, 40.0, 40.0))]) for d in (5e-4, 2e-3))
    for head, accepted in (("ssdlite", 0), ("faster_rcnn", 1)):
        task = Detection(class_names=("a",), head=head, score_threshold=0.05)  # type: ignore[arg-type]
        is_close = [
            task.export_support().compare(reference, other).difference <= 1e-4
            for other in (near, far)
        ]
        assert is_close == [bool(accepted), False]

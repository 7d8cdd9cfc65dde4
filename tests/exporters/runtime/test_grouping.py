"""Images are grouped by size: few groups, every image once, and never many images in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.exporters.runtime import grouping
from visiongraft.exporters.runtime.grouping import WINDOW, NamedImage, grouped


def groups_of(heights: Sequence[int], size: int) -> list[list[NamedImage]]:
    images = ((f"{i}", np.full((h, 2, 3), i % 256, np.uint8)) for i, h in enumerate(heights))
    return list(grouped(images, size))


def test_images_of_one_size_are_batched_in_order() -> None:
    groups = groups_of([5] * 10, 4)
    assert [[image.position for image in group] for group in groups] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]


def test_sizes_that_alternate_fill_whole_batches() -> None:
    groups = groups_of([1, 2, 3, 4] * 8, 8)
    assert [len(group) for group in groups] == [8] * 4


@given(st.lists(st.integers(1, 6), max_size=80), st.integers(1, 7))
def test_each_image_is_in_one_group_of_its_size(heights: list[int], size: int) -> None:
    groups = groups_of(heights, size)
    assert sorted(image.position for group in groups for image in group) == [*range(len(heights))]
    for group in groups:
        assert 1 <= len(group) <= size
        assert len({image.pixels.shape for image in group}) == 1
        assert all(image.pixels.shape[0] == heights[image.position] for image in group)
        assert all(image.name == str(image.position) for image in group)
        assert [image.position for image in group] == sorted(image.position for image in group)


@given(st.lists(st.integers(1, 40), max_size=120), st.integers(1, 4))
def test_only_a_few_batches_wait(heights: list[int], size: int) -> None:
    taken = 0

    def images() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal taken
        for height in heights:
            taken += 1
            yield "", np.zeros((height, 2, 3), np.uint8)

    done = 0
    for group in grouped(images(), size):
        assert taken - done <= max(size + 1, WINDOW * size)
        done += len(group)


def test_large_images_wait_for_one_batch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "WINDOW_BYTES", 1)
    assert [len(group) for group in groups_of([1, 2] * 4, 4)] == [3, 4, 1]


def test_the_image_that_has_waited_longest_goes_first() -> None:
    groups = groups_of([9, *range(10, 40)], 2)
    assert [image.position for group in groups for image in group] == [*range(31)]

"""Samples have names, can be subset, and are decoded one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.samples import FileSamples, Splits, WrappedSamples
from visiongraft.errors import DataError
from visiongraft.inputs.samples import InputSamples


def test_files_return_their_path_target_pixels_and_bytes(write_images):
    paths = write_images(3)
    samples = FileSamples(paths, ["a", "b", "c"])
    assert len(samples) == 3
    assert samples.name(1) == str(paths[1]) and samples.target(1) == "b"
    assert samples.load(1).shape == (7, 8, 3) and samples.load(1, channels=1).shape == (7, 8, 1)
    assert samples.content(1) == paths[1].read_bytes()


def test_a_missing_file_has_no_content(write_images):
    paths = write_images(1)
    paths[0].unlink()
    samples = FileSamples(paths, [0])
    assert samples.content(0) is None
    with pytest.raises(DataError, match=str(paths[0])):
        samples.load(0)


def test_as_many_targets_as_files_are_needed(write_images):
    with pytest.raises(DataError, match="2 images cannot have 1 targets"):
        FileSamples(write_images(2), [0])


@given(st.lists(st.integers(0, 9)), st.data())
def test_a_subset_of_a_subset_applies_both_selections(first, data):
    base = InputSamples([np.full((1, 1), i, np.uint8) for i in range(10)])
    second = data.draw(st.lists(st.integers(0, len(first) - 1)) if first else st.just([]))
    chosen = base.subset(first).subset(second)
    assert [chosen.name(i) for i in range(len(chosen))] == [f"image {first[i]}" for i in second]
    assert [int(chosen.load(i, 1).item()) for i in range(len(chosen))] == [first[i] for i in second]


def test_a_subset_of_files_keeps_their_bytes_and_targets(write_images):
    paths = write_images(3)
    subset = FileSamples(paths, [7, 8, 9]).subset([2, 0])
    assert [subset.target(0), subset.target(1)] == [9, 7]
    assert subset.content(0) == paths[2].read_bytes()
    assert subset.load(1).shape == (6, 8, 3) and subset.load(1, channels=1).shape == (6, 8, 1)


def test_a_name_with_a_line_break_stays_on_one_line():
    assert FileSamples([Path("a\nb.jpg")], [0]).name(0) == "a\\nb.jpg"


def test_images_without_a_file_of_their_own_have_no_content():
    samples = InputSamples([np.zeros((1, 1), np.uint8)])
    assert samples.content(0) is None and samples.subset([0]).content(0) is None


def test_parts_need_neither_facts_nor_warnings():
    samples = InputSamples([])
    splits = Splits(samples, samples)
    assert splits.facts == {} and splits.warnings == ()
    assert splits.facts is not Splits(samples, samples).facts


def test_a_set_around_another_passes_everything_on() -> None:
    class Spoilt(InputSamples):
        def problem(self, index: int, height: int, width: int) -> str:
            return f"{index} is not {height}x{width}"

    inner = Spoilt([np.full((2, 3, 3), i, np.uint8) for i in range(3)])
    outer = WrappedSamples(inner)
    assert len(outer) == 3
    for index in range(3):
        assert outer.name(index) == inner.name(index)
        assert outer.target(index) == inner.target(index)
        assert (outer.load(index) == inner.load(index)).all()
        assert outer.content(index) == inner.content(index)
        assert outer.problem(index, 4, 5) == f"{index} is not 4x5"
        problem, target = outer.checked_target(index, 4, 5)
        assert problem == f"{index} is not 4x5" and target() == inner.target(index)


def test_a_subset_asks_its_samples_for_problem_and_target_together() -> None:
    class Together(InputSamples):
        def checked_target(self, index: int, height: int, width: int) -> tuple[str, Any]:
            return f"{index} in {height}x{width}", lambda: index

    samples = Together([np.zeros((1, 1), np.uint8)] * 3).subset([2, 0]).subset([0])
    problem, target = samples.checked_target(0, 4, 5)
    assert problem == "2 in 4x5" and target() == 2

"""Batches: seeded per sample, in the planned order, and never a bare traceback from a worker."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import default_collate

from visiongraft.data.images import DatasetSamples
from visiongraft.data.loader import (
    BatchLoader,
    SampleDataset,
    default_workers,
    ordered_batches,
    shard,
    shuffled_batches,
    split_by_size,
)
from visiongraft.errors import DataError, TrainingError
from visiongraft.preprocess import Preprocess, PreprocessConfig


def samples_of(count: int = 7) -> DatasetSamples:
    generator = np.random.Generator(np.random.PCG64(0))
    images = [generator.integers(0, 256, (9 + i, 12, 3), dtype=np.uint8) for i in range(count)]
    return DatasetSamples.of([(p, i) for i, p in enumerate(images)])


def jitter(image: Any, target: Any) -> tuple[Any, Any]:
    """Draws from all three sources of randomness."""
    noise = float(torch.rand(1)) + np.random.rand()
    return torch.full((3, 8, 8), 255.0) * noise / 2, target


def dataset_of(transform: Any = None, seed: int = 0) -> SampleDataset:
    return SampleDataset(samples_of(), Preprocess(PreprocessConfig((8, 8))), transform, seed)


@given(count=st.integers(1, 200), size=st.integers(1, 40), seed=st.integers(0, 5))
def test_every_sample_comes_exactly_once_an_epoch(count, size, seed):
    for batches in (shuffled_batches(count, size, seed, 3), ordered_batches(count, size)):
        assert sorted(i for b in batches for i in b) == list(range(count))
    assert all(len(b) > 1 or count == 1 or size == 1 for b in shuffled_batches(count, size, 0, 0))


@given(count=st.integers(1, 200), size=st.integers(2, 20), processes=st.integers(1, 4))
def test_no_process_is_left_with_a_single_sample(count, size, processes):
    batches = shuffled_batches(count, size * processes, 0, 0, processes)
    assert sorted(i for b in batches for i in b) == list(range(count))
    parts = [shard(b, rank, processes) for b in batches for rank in range(processes)]
    assert count < 2 * processes or min(map(len, parts)) > 1


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(st.lists(SIZES, max_size=30), st.integers(1, 200))
def test_a_batch_is_split_by_size_and_pixels(sizes: list[tuple[int, int]], pixels: int) -> None:
    parts = split_by_size(sizes, pixels)
    assert sorted(i for part in parts for i in part) == list(range(len(sizes)))
    for part in parts:
        assert len({sizes[i] for i in part}) == 1
        assert list(part) == sorted(part)
        height, width = sizes[part[0]]
        assert len(part) == 1 or len(part) * height * width <= pixels


def test_batches_of_one_size_hold_no_more_pixels_than_allowed() -> None:
    images = [np.zeros((4, side, 3), np.uint8) for side in (5, 6, 5, 5, 5)]
    dataset = SampleDataset(
        DatasetSamples.of([(image, i) for i, image in enumerate(images)]),
        Preprocess(PreprocessConfig((8, 8))),
    )
    loader = BatchLoader(dataset, default_collate, one_size=True, pixels=2 * 4 * 5)
    found = [batch.indices.tolist() for batch in loader.batches([[(i, 0) for i in range(5)]])]
    assert found == [[0, 2], [3, 4], [1]]


@given(size=st.integers(0, 30), processes=st.integers(1, 5))
def test_processes_divide_a_batch_without_overlap(size, processes):
    batch = list(range(size))
    parts = [shard(batch, rank, processes) for rank in range(processes)]
    assert sorted(i for p in parts for i in p) == batch
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_order_depends_on_seed_and_epoch_alone():
    first = shuffled_batches(50, 8, seed=1, epoch=2)
    torch.rand(5)
    assert shuffled_batches(50, 8, seed=1, epoch=2) == first
    assert shuffled_batches(50, 8, seed=1, epoch=3) != first
    assert shuffled_batches(50, 8, seed=2, epoch=2) != first


def test_the_same_key_loads_the_same_item_in_any_process():
    one, other = dataset_of(jitter), dataset_of(jitter)
    a = one[(2, 5)]
    one[(1, 0)]
    torch.rand(9)
    assert torch.equal(a.image, other[(2, 5)].image)
    for key in ((2, 6), (3, 5)):
        assert not torch.equal(a.image, other[key].image)
    assert not torch.equal(a.image, dataset_of(jitter, seed=1)[(2, 5)].image)


def test_loading_leaves_the_global_randomness_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    loader = BatchLoader(dataset_of(jitter), default_collate)
    list(loader.batches([[(0, 0), (1, 0)]]))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_the_planned_order_with_targets_and_original_sizes(workers):
    loader = BatchLoader(dataset_of(), default_collate, workers)
    for plan in ([[(3, 0), (1, 0)], [(0, 0)]], [[(5, 0)]]):  # the same workers, another plan
        batches = list(loader.batches(plan))
        assert [b.indices.tolist() for b in batches] == [[i for i, _ in keys] for keys in plan]
        assert [b.targets.tolist() for b in batches] == [[i for i, _ in keys] for keys in plan]
        assert batches[0].sizes[0].tolist() == [9 + plan[0][0][0], 12]
        assert batches[0].images.shape == (len(plan[0]), 3, 8, 8)


def test_without_augmentation_a_sample_is_exactly_what_evaluation_sees():
    samples, preprocess = samples_of(), Preprocess(PreprocessConfig((8, 8)))
    expected = preprocess(torch.from_numpy(samples.load(3))[None])[0]
    assert torch.equal(dataset_of()[(3, 0)].image, expected)


def fails(image: Any, target: Any) -> Any:
    raise RuntimeError("no\nway")


def wrong_size(image: Any, target: Any) -> Any:
    return torch.zeros(3, 4, 4), target


class Vanishing(DatasetSamples):
    def load(self, index: int, channels: int = 3) -> Any:
        raise DataError(f"{self.name(index)}: cannot be read: missing")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (dataset_of(fails), r"item 2: cannot be prepared: RuntimeError: no way"),
        (dataset_of(wrong_size), r"item 2: the augmentation returned the shape \(3, 4, 4\)"),
        (
            SampleDataset(Vanishing([1, 2, 3]), Preprocess(PreprocessConfig((8, 8)))),
            "item 2: cannot be read: missing",
        ),
    ],
)
def test_a_failure_in_loading_is_one_line_that_names_the_sample(workers, dataset, words):
    loader = BatchLoader(dataset, default_collate, workers)
    with pytest.raises(DataError, match=words) as caught:
        list(loader.batches([[(2, 0)]]))
    assert "\n" not in str(caught.value)


def test_targets_that_cannot_be_collated_are_named():
    def collate(targets: list[Any]) -> Any:
        raise ValueError("ragged")

    loader = BatchLoader(dataset_of(), collate)
    with pytest.raises(DataError, match=r"samples \[2, 4\] cannot be collated: ragged"):
        list(loader.batches([[(2, 0), (4, 0)]]))


def test_loading_on_a_cpu_starts_no_processes():
    assert default_workers(torch.device("cpu")) == 0
    assert default_workers(torch.device("cuda")) >= 1


def die(image: Any, target: Any) -> tuple[Any, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def leave(image: Any, target: Any) -> tuple[Any, Any]:
    os._exit(7)


# Torch learns of the end of a worker by a signal or by a timeout, whichever comes first.
@pytest.mark.parametrize("transform", [die, pytest.param(leave, marks=pytest.mark.slow)])
def test_a_worker_that_ends_is_named_as_such(transform: Any) -> None:
    loader = BatchLoader(dataset_of(transform), default_collate, workers=1)
    how = "(was killed by signal: Killed|exited unexpectedly( with exit code 7)?)"
    words = rf"worker process that loads images \(pid \d+\) {how}; if memory is .*workers=0"
    with pytest.raises(TrainingError, match=words) as caught:
        list(loader.batches([[(0, 0), (1, 0)]]))
    assert "\n" not in str(caught.value)

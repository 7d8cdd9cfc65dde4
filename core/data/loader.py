"""Load batches of samples: seeded per sample, sharded over processes, resumable at any batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from visiongraft.data.batch import Batch
from visiongraft.data.samples import Samples, Transform
from visiongraft.errors import DataError, PluginError, VisiongraftError, one_line, type_and_message
from visiongraft.preprocess import Preprocess
from visiongraft.seeds import mix_seed, seeded
from visiongraft.system.processes import as_lost_process

Key = tuple[int, int]
BatchIndices = list[list[list[int]]]


class Item(NamedTuple):
    """A loaded sample: network input, float (..., C, h, w), target, original (height, width), position."""

    image: Tensor
    target: Any
    size: tuple[int, int]
    position: int


@dataclass(frozen=True)
class Unreadable:
    """A sample or batch that could not be loaded, so that workers need not raise."""

    reason: str


@dataclass
class SampleDataset(Dataset[Item | Unreadable]):
    """Map-style dataset that loads, augments and preprocesses single samples.

    A key is (index, view): the same key always returns the same item, in any process and order.

    Attributes:
        samples: Source of the images and targets.
        preprocess: The preprocessing of the network.
        transform: Training-time augmentation, or ``None``.
        seed: Seed of the augmentation.
    """

    samples: Samples
    preprocess: Preprocess
    transform: Transform | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Item | Unreadable:
        index, view = key
        try:
            decoded = self.samples.load(index, len(self.preprocess.config.mean))
            image, target = self._prepare(decoded, self.samples.target(index), index, view)
        except VisiongraftError as error:
            return Unreadable(str(error))
        except Exception as error:  # a task's or a user's own code may raise any error
            cause = type_and_message(error)
            return Unreadable(f"{self.samples.name(index)}: cannot be prepared: {cause}")
        return Item(image, target, self.preprocess.inputs.size((1, *decoded.shape)), index)

    def _prepare(
        self, decoded: np.ndarray[Any, Any], target: Any, index: int, view: int
    ) -> tuple[Tensor, Any]:
        pixels = torch.from_numpy(np.require(decoded, requirements=["C", "W"]))
        if self.transform is None:
            return self.preprocess(pixels[None])[0], target
        with seeded(self.seed, "sample", index, view):
            image, target = self.transform(augmentable(pixels), target)
        image = torch.as_tensor(image).as_subclass(Tensor)
        if tuple(image.shape[-2:]) != tuple(self.preprocess.config.size):
            raise DataError(
                f"{self.samples.name(index)}: the augmentation returned the shape "
                f"{tuple(image.shape)}, but the network takes images of the size "
                f"{self.preprocess.config.size}"
            )
        return self.preprocess.normalize(image[None])[0], target


def augmentable(pixels: Tensor) -> tv_tensors.TVTensor:
    """Wrap an image (H, W, C), or a clip (T, C, H, W), for torchvision's transforms."""
    if pixels.ndim == 3:
        return tv_tensors.Image(pixels.permute(2, 0, 1))
    return tv_tensors.Video(pixels)


class BatchLoader:
    """Data loader whose batches are planned per epoch and whose workers persist between epochs.

    Args:
        dataset: Dataset to load from.
        collate: Collates a list of targets to the targets of one batch.
        workers: Number of worker processes; 0 loads in this process.
        pin_memory: Whether to use page-locked memory, for copies to a GPU.
        one_size: Whether to split each batch into batches of images of one original size.
        pixels: Their pixels at most, see ``split_by_size``.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        collate: Callable[[list[Any]], Any],
        workers: int = 0,
        pin_memory: bool = False,
        one_size: bool = False,
        pixels: int = sys.maxsize,
    ) -> None:
        self.dataset = dataset
        self._plan: list[list[Key]] = []
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=self._plan,  # replaced every epoch
            collate_fn=_Collate(collate, pixels if one_size else None),
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            # A generator of its own: creating an iterator must not draw from the global one.
            generator=torch.Generator(),
        )

    def batches(self, plan: Sequence[Sequence[Key]]) -> Iterator[Batch]:
        """Load batches in the planned order.

        Args:
            plan: Keys (index, view) of each batch.

        Yields:
            One batch per entry, on the CPU; several of an entry that was split.

        Raises:
            DataError: A sample cannot be loaded; the message names it.
            TrainingError: A worker process has ended.
        """
        self._plan[:] = [list(keys) for keys in plan]
        loaded = iter(self._loader)
        while True:
            try:
                batches = next(loaded, None)
            except RuntimeError as error:
                lost = as_lost_process(error)
                if lost is None:
                    raise
                raise lost from error
            if batches is None:
                return
            if isinstance(batches, Unreadable):
                raise DataError(batches.reason)
            yield from batches


@dataclass
class _Collate:
    collate: Callable[[list[Any]], Any]
    pixels: int | None

    def __call__(self, items: list[Item | Unreadable]) -> list[Batch] | Unreadable:
        loaded: list[Item] = []
        for item in items:
            if isinstance(item, Unreadable):
                return item
            loaded.append(item)
        groups: list[Sequence[int]] = [range(len(loaded))]
        if self.pixels is not None:
            groups = split_by_size([item.size for item in loaded], self.pixels)
        try:
            return [self._batch([loaded[i] for i in group]) for group in groups]
        except DataError as error:
            return Unreadable(str(error))

    def _batch(self, items: list[Item]) -> Batch:
        positions = [item.position for item in items]
        if len({item.image.shape for item in items}) > 1:
            raise DataError(
                f"samples {positions} have several sizes, which resize='pad' keeps; train with "
                "augmentation, which crops all images to one size, or with resize='stretch'"
            )
        try:
            targets = self.collate([item.target for item in items])
        except Exception as error:  # a task's own code may raise any error
            raise DataError(
                f"targets of samples {positions} cannot be collated: {one_line(error)}"
            ) from None
        return Batch(
            images=torch.stack([item.image for item in items]),
            targets=targets,
            sizes=torch.tensor([item.size for item in items], dtype=torch.int64),
            indices=torch.tensor(positions, dtype=torch.int64),
        )


def shuffled_batches(
    count: int, batch_size: int, seed: int, epoch: int, processes: int = 1
) -> list[list[int]]:
    """Batch all samples in a random order that depends only on the seed and the epoch.

    A last batch that would leave a process with fewer than two samples is merged into the one
    before it, since batch normalization cannot train on one sample.

    Args:
        count: Number of samples.
        batch_size: Samples per batch over all processes.
        seed: Seed of the run.
        epoch: Zero-based epoch of the run.
        processes: Number of processes that share each batch.

    Returns:
        Sample positions of each batch.

    Examples:
        >>> [len(b) for b in shuffled_batches(9, 4, seed=0, epoch=0)]
        [4, 5]
    """
    order = np.random.Generator(np.random.PCG64(mix_seed(seed, "order", epoch))).permutation(count)
    batches = ordered_batches(count, batch_size)
    if len(batches) > 1 and len(batches[-1]) < 2 * processes:
        batches[-2:] = [batches[-2] + batches[-1]]
    return [[int(order[i]) for i in batch] for batch in batches]


def ordered_batches(count: int, batch_size: int) -> list[list[int]]:
    """Batch all samples in order.

    Args:
        count: Number of samples.
        batch_size: Samples per batch.

    Returns:
        Sample positions of each batch.
    """
    return [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]


def split_by_size(sizes: Sequence[tuple[int, ...]], pixels: int) -> list[Sequence[int]]:
    """Split a batch into batches of images of one size, of which one alone may have more pixels than allowed.

    Args:
        sizes: Height and width of each image.
        pixels: Pixels of a batch.

    Returns:
        Positions in the batch.

    Examples:
        >>> split_by_size([(2, 3), (4, 4), (2, 3), (2, 3)], pixels=12)
        [[0, 2], [3], [1]]
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for position, size in enumerate(sizes):
        groups.setdefault(size, []).append(position)
    parts: list[Sequence[int]] = []
    for (height, width), members in groups.items():
        most = max(1, pixels // (height * width))
        parts += [members[i : i + most] for i in range(0, len(members), most)]
    return parts


def shard(batch: Sequence[int], rank: int, processes: int) -> list[int]:
    """Return the part of a batch that one process loads.

    Args:
        batch: Sample positions of the whole batch.
        rank: Rank of the process.
        processes: Number of processes.

    Returns:
        Every ``processes``-th position, beginning at ``rank``; empty for a smaller batch.

    Examples:
        >>> shard([5, 6, 7], rank=1, processes=2)
        [6]
    """
    return list(batch[rank::processes])


def shard_batches(batches: Sequence[Sequence[int]], processes: int) -> BatchIndices:
    """Shard each batch over the processes.

    Args:
        batches: Sample positions of each whole batch.
        processes: Number of processes.

    Returns:
        For each batch, the positions that each process loads.

    Examples:
        >>> shard_batches([[5, 6, 7], [8]], processes=2)
        [[[5, 7], [6]], [[8], []]]
    """
    return [[shard(batch, rank, processes) for rank in range(processes)] for batch in batches]


def checked_batches(batches: Any, count: int, processes: int, owner: str) -> BatchIndices:
    """Check the batches of a task's own batch sampler, so that a fault is attributed to the task.

    Args:
        batches: The result of ``Task.batch_sampler``.
        count: Number of samples.
        processes: Number of processes.
        owner: Name of the task, for the message.

    Returns:
        The batches.

    Raises:
        PluginError: There is no batch, an empty one, one with another number of shards than
            processes, or a position out of range.
    """
    fault = ""
    if not batches:
        fault = "no batch"
    for batch in batches:
        if len(batch) != processes:
            fault = f"a batch in {len(batch)} shards for {processes} processes"
        elif not any(batch):
            fault = "a batch without samples"
        else:
            outside = [i for part in batch for i in part if not 0 <= i < count]
            fault = f"position {outside[0]} of {count} samples" if outside else fault
    if fault:
        raise PluginError(f"task {owner!r} returned {fault}; see Task.batch_sampler")
    found: BatchIndices = batches
    return found


def default_workers(device: torch.device) -> int:
    """Return the default number of worker processes for data loading.

    Args:
        device: Device of the network. On a CPU, loading shares the cores, so that there are none.

    Returns:
        The number of worker processes.
    """
    return 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)


def pixels_at_once(device: torch.device) -> int:
    """Return how many pixels of outputs at the images' own sizes are computed at once.

    Args:
        device: Device of the network. Results at full resolution with all classes would need more memory than a
            training step; on a CPU, single images are as fast as many.
    """
    return 2**18 if device.type == "cpu" else 2**22

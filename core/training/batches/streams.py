"""Streams: further data of a training step, beside the training set.

Each stream is an endless order of its samples, made of one permutation after the other, that
depends on the seed of the run and the stream's name only. A run stores how many samples it has
taken, and so goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from visiongraft.config import FitConfig
from visiongraft.data.batch import Batch
from visiongraft.data.loader import BatchLoader, Key, SampleDataset, default_workers, shard
from visiongraft.data.samples import Samples
from visiongraft.network import Network
from visiongraft.seeds import mix_seed


@dataclass
class Streams:
    """The streams of a run, and their loaders.

    Attributes:
        network: The network, with task and preprocessing.
        config: Settings; ``batch_size``, ``seed`` and ``workers`` are used.
        device: Where the network runs.
        samples: The samples of each stream, by name.
        processes: Number of processes that share each batch.
        rank: Rank of this process.
    """

    network: Network
    config: FitConfig
    device: torch.device
    samples: Mapping[str, Samples]
    processes: int = 1
    rank: int = 0
    _loaders: dict[str, BatchLoader] = field(default_factory=dict)

    def join(
        self, batches: Iterator[Batch], count: int, taken: Mapping[str, int]
    ) -> Iterator[Batch]:
        """Add a batch of each stream to each training batch.

        Args:
            batches: The training batches of this process.
            count: How many there are.
            taken: Samples of each stream that all processes have taken before.

        Yields:
            The training batches, with ``streams``.
        """
        loaded = [
            self._loader(name).batches(self._plan(name, taken.get(name, 0), count))
            for name in self.samples
        ]
        for batch, *further in zip(batches, *loaded, strict=True):
            batch.streams = dict(zip(self.samples, further, strict=True))
            yield batch

    def after(self, taken: Mapping[str, int], count: int) -> dict[str, int]:
        """Return how many samples of each stream have been taken after more batches.

        Args:
            taken: Samples taken before.
            count: Number of training batches since.
        """
        each = self.config.batch_size * self.processes
        return {name: taken.get(name, 0) + count * each for name in self.samples}

    def _plan(self, name: str, start: int, count: int) -> list[list[Key]]:
        size = self.config.batch_size * self.processes
        keys = endless_keys(name, len(self.samples[name]), self.config.seed, start, count * size)
        batches = [keys[i : i + size] for i in range(0, len(keys), size)]
        return [
            [batch[i] for i in shard(range(size), self.rank, self.processes)] for batch in batches
        ]

    def _loader(self, name: str) -> BatchLoader:
        if name not in self._loaders:
            workers = self.config.workers
            self._loaders[name] = stream_loader(
                self.network,
                name,
                self.samples[name],
                seed=self.config.seed,
                workers=default_workers(self.device) if workers is None else workers,
                pin_memory=self.device.type == "cuda",
            )
        return self._loaders[name]


def stream_loader(
    network: Network,
    name: str,
    samples: Samples,
    *,
    seed: int,
    workers: int = 0,
    pin_memory: bool = False,
) -> BatchLoader:
    """Create the loader of a stream.

    Args:
        network: The network, with task and preprocessing.
        name: Name of the stream.
        samples: Its samples.
        seed: Seed of the run.
        workers: Number of worker processes.
        pin_memory: As for ``BatchLoader``.

    Returns:
        A loader whose keys are the index of a sample and the number of the pass.
    """
    task = network.task
    dataset = SampleDataset(
        samples,
        network.preprocess_on_cpu(),
        task.stream_transform(name, network.preprocess.config),
        mix_seed(seed, "stream", name),
    )
    return BatchLoader(dataset, partial(collate_targets, task.collate), workers, pin_memory)


def endless_keys(name: str, size: int, seed: int, start: int, count: int) -> list[Key]:
    """Return a part of the endless order of a stream.

    Args:
        name: Name of the stream.
        size: Number of its samples.
        seed: Seed of the run.
        start: Where the part begins.
        count: How long it is.

    Returns:
        Sample index and number of the pass over the stream, from 0, of each place in the order.

    Examples:
        >>> keys = endless_keys("unlabelled", 3, seed=0, start=2, count=4)
        >>> [passed for _, passed in keys], len({index for index, _ in keys[1:]})
        ([0, 1, 1, 1], 3)
    """
    orders: dict[int, Any] = {}
    keys = []
    for place in range(start, start + count):
        passed, index = divmod(place, size)
        if passed not in orders:
            generator = np.random.Generator(np.random.PCG64(mix_seed(seed, "stream", name, passed)))
            orders[passed] = generator.permutation(size)
        keys.append((int(orders[passed][index]), passed))
    return keys


def collate_targets(collate: Callable[[list[Any]], Any], targets: list[Any]) -> Any:
    """Collate the targets of a stream's batch; ``None`` if none of the samples has one."""
    return None if all(target is None for target in targets) else collate(targets)

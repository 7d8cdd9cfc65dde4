"""Balanced batches: several images of each of several identities (P x K), sharded over processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain

import numpy as np

from visiongraft.seeds import mix_seed

Group = list[int]  # positions of images of one identity


def balanced_batches(
    labels: Sequence[int],
    batch_size: int,
    per_identity: int,
    processes: int = 1,
    *,
    seed: int = 0,
    epoch: int = 0,
) -> list[list[list[int]]]:
    """Batch images so that each batch has several images of each of several identities.

    An epoch visits each image once, in a group of at most ``per_identity`` images of its identity.
    A batch contains at most one group of an identity. If some identities have far more images than
    the others, no other identities are left to combine their last groups with: those groups are
    skipped, different ones in each epoch. The images of a group stay in one process, so that each
    process has pairs.

    Args:
        labels: Class id of each image.
        batch_size: Images per batch and process.
        per_identity: Images of an identity in a batch (K); fewer if the shard of a process would
            otherwise not have two identities.
        processes: Number of processes that share each batch.
        seed: Seed of the run.
        epoch: Zero-based epoch of the run.

    Returns:
        For each batch, the positions that each process loads.

    Examples:
        >>> batches = balanced_batches([0] * 4 + [1] * 4 + [2] * 4, batch_size=4, per_identity=2)
        >>> [len(batch) for (batch,) in batches]
        [4, 4, 4]
    """
    random = np.random.Generator(np.random.PCG64(mix_seed(seed, "identities", epoch)))
    size = max(min(per_identity, batch_size // 2), 1)
    groups_per_batch = max(batch_size // size, 1) * processes
    remaining = deque(_groups(labels, size, random))
    batches: list[list[Group]] = []
    while remaining:
        batch: list[Group] = []
        postponed: list[Group] = []
        seen: set[int] = set()
        while remaining and len(batch) < groups_per_batch:
            group = remaining.popleft()
            repeated = labels[group[0]] in seen
            (postponed if repeated else batch).append(group)
            seen.add(labels[group[0]])
        remaining.extendleft(reversed(postponed))
        if len(batch) > 1 or not batches:
            batches.append(batch)
        if len(batch) < 2:
            break
    return [
        [list(chain.from_iterable(batch[rank::processes])) for rank in range(processes)]
        for batch in batches
    ]


def _groups(labels: Sequence[int], size: int, random: np.random.Generator) -> list[Group]:
    """Divide the images of each identity into groups, and spread these evenly over the epoch."""
    by_label: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        by_label.setdefault(label, []).append(position)
    timed: list[tuple[float, Group]] = []
    for positions in by_label.values():
        shuffled = [positions[i] for i in random.permutation(len(positions))]
        count = -(-len(shuffled) // size)
        for i, offset in enumerate(random.random(count)):
            timed.append(((i + offset) / count, shuffled[i::count]))
    return [group for _, group in sorted(timed)]

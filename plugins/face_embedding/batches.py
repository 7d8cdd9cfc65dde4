"""Batches of some identities with several images each (P x K), divided among processes."""

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
    """Deal images into batches of several identities with several images each.

    In an epoch each image comes once, in a group of at most ``per_identity`` images of its
    identity. No identity is in a batch twice. Where some identities have far more images than the
    others, no other identities are left for their last groups: those are left out, others in each
    epoch. Images of an identity stay in one process, which therefore has pairs.

    Args:
        labels: Class of each image.
        batch_size: Images per batch and process.
        per_identity: Images of an identity in a batch (K); fewer where a process's part of a
            batch could not hold two identities.
        processes: Processes that share each batch.
        seed: Seed of the run.
        epoch: Epoch of the run, from 0.

    Returns:
        For each batch the positions that each process takes.

    Examples:
        >>> batches = balanced_batches([0] * 4 + [1] * 4 + [2] * 4, batch_size=4, per_identity=2)
        >>> [len(batch) for (batch,) in batches]
        [4, 4, 4]
    """
    random = np.random.Generator(np.random.PCG64(mix_seed(seed, "identities", epoch)))
    size = max(min(per_identity, batch_size // 2), 1)
    together = max(batch_size // size, 1) * processes
    waiting = deque(_groups(labels, size, random))
    batches: list[list[Group]] = []
    while waiting:
        batch: list[Group] = []
        passed: list[Group] = []
        seen: set[int] = set()
        while waiting and len(batch) < together:
            group = waiting.popleft()
            known = labels[group[0]] in seen
            (passed if known else batch).append(group)
            seen.add(labels[group[0]])
        waiting.extendleft(reversed(passed))
        if len(batch) > 1 or not batches:
            batches.append(batch)
        if len(batch) < 2:
            break
    return [
        [list(chain.from_iterable(batch[rank::processes])) for rank in range(processes)]
        for batch in batches
    ]


def _groups(labels: Sequence[int], size: int, random: np.random.Generator) -> list[Group]:
    """Cut each identity's images into groups, and spread them evenly over the epoch."""
    own: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        own.setdefault(label, []).append(position)
    placed: list[tuple[float, Group]] = []
    for positions in own.values():
        shuffled = [positions[i] for i in random.permutation(len(positions))]
        count = -(-len(shuffled) // size)
        for i, start in enumerate(random.random(count)):
            placed.append(((i + start) / count, shuffled[i::count]))
    return [group for _, group in sorted(placed)]

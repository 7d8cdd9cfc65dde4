"""Which images advice is computed from: few of each class, in an order that any prefix is balanced in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.batch import class_ids
from visiongraft.data.samples import Samples
from visiongraft.scorers import ClassIds
from visiongraft.seeds import mix_seed
from visiongraft.task import Task

FIRST = 2  # images of each class that come first


def labels_of(task: Task, samples: Samples) -> ClassIds | None:
    """Return the class id of each sample.

    Args:
        task: The task, which collates targets.
        samples: The samples; images are not decoded.

    Returns:
        int64 (N,); ``None`` if the task has anything else than one class per image.
    """
    ends = task.collate([samples.target(0), samples.target(len(samples) - 1)])
    if class_ids(ends) is None:  # before all targets are read, which may be masks
        return None
    found = class_ids(task.collate([samples.target(i) for i in range(len(samples))]))
    return None if found is None else np.asarray(found.numpy(), dtype=np.int64)


def identities_of(task: Task, samples: Samples) -> ClassIds | None:
    """Return what each sample shows, of tasks that embed images.

    Args:
        task: The task.
        samples: The samples; images are not decoded.

    Returns:
        int64 (N,); ``None`` if the task has no such thing.
    """
    if task.identity_ids([samples.target(0)]) is None:  # before all targets are read
        return None
    return np.asarray(task.identity_ids([samples.target(i) for i in range(len(samples))]), np.int64)


def balanced_order(labels: ClassIds | None, count: int, seed: int) -> NDArray[np.intp]:
    """Order samples at random so that each prefix has all classes as the whole has them.

    Two images of each class come first, so that rare classes are in every sample.

    Args:
        labels: int64 (N,), class ids; ``None`` for a random order.
        count: Number of samples N.
        seed: Seed of the order.

    Returns:
        Positions.

    Example:
        >>> order = balanced_order(np.array([0] * 90 + [1] * 10), 100, seed=0)
        >>> int((order[:20] >= 90).sum())
        2
    """
    generator = np.random.Generator(np.random.PCG64(mix_seed(seed, "advice")))
    shuffled = generator.permutation(count)
    if labels is None:
        return shuffled
    turns, keys = np.zeros(count, dtype=np.int64), np.zeros(count)
    for label in np.unique(labels):
        own = np.flatnonzero(labels[shuffled] == label)
        turns[own] = np.arange(len(own))
        keys[own] = (np.arange(len(own)) + 0.5) / len(own)
    return shuffled[np.lexsort((keys, np.minimum(turns, FIRST)))]


def renumbered(labels: ClassIds) -> ClassIds:
    """Number the classes that occur from 0."""
    return np.asarray(np.unique(labels, return_inverse=True)[1], dtype=np.int64)

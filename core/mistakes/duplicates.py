"""Near-duplicates among embeddings, and the groups that they form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.findings import NEAR
from visiongraft.scorers import Floats
from visiongraft.training.embedding import unit_rows

SAME = 1e-6  # distance of copies that are rounded differently
ROWS = 1024  # of the similarity matrix that are computed at once


def near_pairs(features: Floats) -> list[tuple[int, int, float]]:
    """Find pairs of images that are much nearer to each other than images usually are to the nearest one.

    Args:
        features: float64 (N, D), embeddings.

    Returns:
        Positions of both and their cosine distance, the nearest first.

    Examples:
        >>> near_pairs(np.array([[1.0, 0], [1, 0], [0, 1], [-1, 0.2]]))
        [(0, 1, 0.0)]
    """
    units = unit_rows(features)
    nearest = np.concatenate([rows.min(axis=1) for _, rows in _distances(units)])
    limit = max(SAME, NEAR * float(np.median(nearest)))  # the median is of copies if most have one
    found = []
    for first, rows in _distances(units):
        for i, j in zip(*np.nonzero(rows <= limit), strict=True):
            if first + i < j:
                found.append((int(first + i), int(j), float(rows[i, j])))
    return sorted(found, key=lambda pair: (pair[2], pair[:2]))


def groups_of(count: int, pairs: list[tuple[int, int, float]]) -> NDArray[np.int64]:
    """Number the images so that those which pairs connect have the same number.

    Args:
        count: Number of images.
        pairs: Positions of two images each, as ``near_pairs`` returns them.

    Returns:
        int64 (count,).

    Examples:
        >>> groups_of(4, [(1, 3, 0.1)]).tolist()
        [0, 1, 2, 1]
    """
    first = list(range(count))

    def root(i: int) -> int:
        while first[i] != i:
            i = first[i]
        return i

    for one, other, _ in pairs:
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return np.array([root(i) for i in range(count)], dtype=np.int64)


def _distances(units: Floats) -> Iterator[tuple[int, Floats]]:
    """Yield the distances of some images from all others at a time, with the position of the first."""
    for first in range(0, len(units), ROWS):
        rows = (1 - units[first : first + ROWS] @ units.T).clip(0)
        rows[np.arange(len(rows)), first + np.arange(len(rows))] = np.inf
        yield first, rows

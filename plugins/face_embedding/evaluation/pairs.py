"""Pairs of images to compare: sampled with a seed, as many of one identity as of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visiongraft.seeds import mix_seed

FOLDS = 10
MIN_IDENTITIES = 5  # per fold: with fewer, each would be compared with very few others
PAIRS_PER_FOLD = 300  # of each kind, as in LFW
MAX_PAIRS = 2_000_000  # if there are more, they are sampled
SAMPLED_PAIRS = 1_000_000  # of each kind

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, as positions.

    Attributes:
        first: (P,) position of the first image of each pair.
        second: (P,) position of the second image.
        same: (P,) whether both images show the same identity.
        folds: (P,) zero-based fold of each pair.
        listed: Whether the dataset lists the pairs; otherwise they are sampled.
    """

    first: Indices
    second: Indices
    same: NDArray[np.bool_]
    folds: Indices
    listed: bool = False

    def __len__(self) -> int:
        return len(self.first)

    def folds_share_no_identity(self, identities: Sequence[str]) -> bool:
        """Check that no identity is in two folds, given the identity of each image."""
        codes = _codes(identities)
        both = np.concatenate([codes[self.first], codes[self.second]])
        seen = np.unique(np.stack([both, np.tile(self.folds, 2)]), axis=1)
        return bool(len(np.unique(seen[0])) == seen.shape[1])

    def has_both_kinds(self) -> bool:
        """Check whether there are pairs of one identity and pairs of two."""
        return bool(self.same.any() and not self.same.all())


def draw_pairs(identities: Sequence[str], seed: int = 0) -> Pairs:
    """Sample pairs in ten folds, each with as many pairs of one identity as of two.

    No identity is in two folds if at least fifty identities (five per fold) have two images;
    otherwise the pairs are distributed over the folds at random.

    Args:
        identities: Name of the identity of each image.
        seed: Seed of the sampling.

    Returns:
        At most 300 pairs of each kind per fold; none if there are no two images of one identity,
        or no two identities.
    """
    random = np.random.Generator(np.random.PCG64(mix_seed(seed, "pairs")))
    codes = _codes(identities)
    groups = _groups_by_fold(codes, identities, seed)
    if groups is not None:
        per_fold = [_balanced(random, codes, group, PAIRS_PER_FOLD) for group in groups]
        if all(len(first) for first, _ in per_fold):
            folds = np.repeat(np.arange(FOLDS), [len(first) for first, _ in per_fold])
            first, second = (np.concatenate(side) for side in zip(*per_fold, strict=True))
            return Pairs(first, second, codes[first] == codes[second], folds)
    first, second = _balanced(random, codes, np.arange(len(codes)), FOLDS * PAIRS_PER_FOLD)
    half = len(first) // 2
    count = max(min(FOLDS, half), 1)
    folds = np.tile(np.arange(half) % count, 2)
    return Pairs(first, second, codes[first] == codes[second], folds)


def all_pairs(identities: Sequence[str], seed: int = 0) -> Pairs:
    """Return every pair of images or, if there are too many, a sample of a million of each kind.

    Args:
        identities: Name of the identity of each image.
        seed: Seed of the sampling.

    Returns:
        The pairs, in one fold.
    """
    codes = _codes(identities)
    count = len(codes)
    if count * (count - 1) // 2 <= MAX_PAIRS:
        first, second = (side.astype(np.int64) for side in np.triu_indices(count, 1))
    else:
        random = np.random.Generator(np.random.PCG64(mix_seed(seed, "all pairs")))
        everything = np.arange(count)
        kinds = [
            _same(random, codes, everything, SAMPLED_PAIRS),
            _different(random, codes, everything, SAMPLED_PAIRS),
        ]
        first, second = (np.concatenate(side) for side in zip(*kinds, strict=True))
    return Pairs(first, second, codes[first] == codes[second], np.zeros(len(first), np.int64))


def _codes(identities: Sequence[str]) -> Indices:
    return np.unique(np.asarray(identities, dtype=object).astype(str), return_inverse=True)[1]


def _groups_by_fold(codes: Indices, identities: Sequence[str], seed: int) -> list[Indices] | None:
    """Assign identities to folds, those with several images first; ``None`` if they are too few."""
    counts = np.bincount(codes) if len(codes) else np.zeros(0, np.int64)
    if (counts > 1).sum() < MIN_IDENTITIES * FOLDS:
        return None
    names = dict(zip(codes.tolist(), identities, strict=True))
    order = sorted(
        range(len(counts)), key=lambda c: (counts[c] == 1, mix_seed(seed, "fold", names[c]))
    )
    fold_of = np.empty(len(counts), np.int64)
    fold_of[order] = np.arange(len(order)) % FOLDS
    return [np.flatnonzero(fold_of[codes] == fold) for fold in range(FOLDS)]


def _balanced(
    random: np.random.Generator, codes: Indices, group: Indices, most: int
) -> tuple[Indices, Indices]:
    """Sample as many pairs of one identity as of two; those of one identity come first."""
    same = _same(random, codes, group, most)
    different = _different(random, codes, group, most)
    count = min(len(same[0]), len(different[0]))
    return (
        np.concatenate([same[0][:count], different[0][:count]]),
        np.concatenate([same[1][:count], different[1][:count]]),
    )


def _same(
    random: np.random.Generator, codes: Indices, group: Indices, most: int
) -> tuple[Indices, Indices]:
    """Sample distinct pairs of one identity, in random order."""
    order = group[np.argsort(codes[group], kind="stable")]
    sizes = np.unique(codes[order], return_counts=True)[1]
    starts = np.cumsum(sizes) - sizes
    possible = sizes * (sizes - 1) // 2
    total = int(possible.sum())
    if total <= 2 * most:
        pieces = [np.triu_indices(size, 1) for size in sizes]
        first = np.concatenate([s + p[0] for s, p in zip(starts, pieces, strict=True)] or [[]])
        second = np.concatenate([s + p[1] for s, p in zip(starts, pieces, strict=True)] or [[]])
        chosen = random.permutation(len(first))[:most]
        return order[first[chosen].astype(np.int64)], order[second[chosen].astype(np.int64)]
    # Sample by the number of the pair among all pairs, so that all are equally likely.
    numbers = random.choice(total, size=most, replace=False)
    which = np.searchsorted(np.cumsum(possible), numbers, side="right")
    rest = numbers - (np.cumsum(possible) - possible)[which]
    first, second = _unrank(rest)
    return order[starts[which] + first], order[starts[which] + second]


def _unrank(numbers: Indices) -> tuple[Indices, Indices]:
    """Return the pair (a, b), a < b, of each number b (b - 1) / 2 + a."""
    second = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) / 2).astype(np.int64)
    second -= (second * (second - 1) // 2 > numbers).astype(np.int64)  # rounding of large roots
    second += (second * (second + 1) // 2 <= numbers).astype(np.int64)
    return numbers - second * (second - 1) // 2, second


def _different(
    random: np.random.Generator, codes: Indices, group: Indices, most: int
) -> tuple[Indices, Indices]:
    """Sample distinct pairs of two identities, in random order."""
    count = len(group)
    total = count * (count - 1) // 2
    numbers = (
        random.permutation(total)
        if total <= 20 * most
        else random.choice(total, size=min(8 * most, total), replace=False)
    )
    first, second = _unrank(numbers)
    first, second = group[first], group[second]
    chosen = np.flatnonzero(codes[first] != codes[second])[:most]
    return first[chosen], second[chosen]

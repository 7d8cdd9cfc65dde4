"""The threshold for a false accept rate: how sure it is, and whether the pairs can show it at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visiongraft.plugins.face_embedding.evaluation.protocol import Floats, Marks, RocCurve
from visiongraft.training.measuring.intervals import wilson

# Pairs of people per expected false accept: with fewer than 3 / rate, not even pairs without any
# false accept would exclude a higher rate with 95% confidence.
PAIRS_PER_FALSE_ACCEPT = 3
Z = 1.959964  # of a 95% interval


@dataclass(frozen=True)
class Threshold:
    """A threshold and what it rests on.

    Attributes:
        value: Pairs at or above it are accepted; ``None`` if the pairs cannot show the rate.
        people: Number of people who are compared with others.
        pairs_of_people: Number of different pairs of them.
        false_accept_rate: Fraction of the accepted pairs among those of two people.
        interval: The 95% confidence interval of that rate.
        true_accept_rate: Fraction of the accepted pairs among those of one person.
    """

    value: float | None
    people: int
    pairs_of_people: int
    false_accept_rate: float | None = None
    interval: tuple[float, float] | None = None
    true_accept_rate: float | None = None


def people_needed(rate: float) -> int:
    """Return how many people a threshold for a false accept rate needs, all compared with all.

    Examples:
        >>> people_needed(0.01), people_needed(0.001)
        (25, 78)
    """
    return int(np.ceil((1 + np.sqrt(1 + 8 * PAIRS_PER_FALSE_ACCEPT / rate)) / 2 - 1e-9))


def threshold_for(
    similarities: Floats, first: NDArray[np.int64], second: NDArray[np.int64], rate: float
) -> Threshold:
    """Choose the lowest threshold whose false accept rate is at most a given one.

    Args:
        similarities: (P,) similarity of each pair.
        first: (P,) number of the person on the first image.
        second: (P,) number of the person on the second image; there must be pairs of one person
            and of two.
        rate: The false accept rate, in (0, 1).

    Returns:
        The threshold; without a value if there are fewer than 3 / rate pairs of people, or if it
        would accept no pair of one person.
    """
    same = first == second
    ends = np.stack([first[~same], second[~same]])
    people, pairs = len(np.unique(ends)), len(np.unique(np.sort(ends, axis=0), axis=1)[0])
    found = RocCurve.of(similarities, same).at_far(rate)
    if found is None or not found[0] or pairs * rate < PAIRS_PER_FALSE_ACCEPT - 1e-9:
        return Threshold(None, people, pairs)
    accepted = similarities[~same] >= found[1]
    return Threshold(
        found[1],
        people,
        pairs,
        float(accepted.mean()),
        rate_interval(accepted, ends[0], ends[1]),
        found[0],
    )


def rate_interval(
    accepted: Marks, first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[float, float]:
    """Compute the 95% confidence interval of a false accept rate.

    Pairs that share a person are not independent, so that their number would make the interval far
    too narrow. The variance is that of a jackknife over people, and the interval Wilson's for as
    many independent pairs as have this variance, at most as many as there are pairs of people.

    Args:
        accepted: (P,) whether each pair of two people is accepted.
        first: (P,) number of the person on the first image.
        second: (P,) number of the person on the second image.

    Returns:
        The lower and the upper end.
    """
    _, codes = np.unique(np.stack([first, second]), return_inverse=True)
    codes = codes.reshape(2, -1)
    total, people = len(accepted), int(codes.max()) + 1
    of_person = np.bincount(codes.ravel(), minlength=people)
    accepts = np.bincount(codes.ravel(), np.tile(accepted, 2), minlength=people)
    rate = float(accepted.mean())
    most = len(np.unique(np.sort(codes, axis=0), axis=1)[0])
    if (of_person == total).any():
        independent = 1.0  # one person is in all pairs
    else:
        without = (accepted.sum() - accepts) / (total - of_person)
        variance = (people - 1) / people * float(((without - without.mean()) ** 2).sum())
        independent = min(rate * (1 - rate) / variance, most) if variance > 0 else most
    return wilson(rate, independent, Z)

"""PARC: whether images that differ in their features differ in their labels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from visiongraft.scorers import Floats, Scorer, ScorerInput


class PARC(Scorer):
    """PARC: rank correlation of distances of features and of labels (Bolya et al., 2021).

    Features are standardized. The distance of two images is 1 minus the Pearson correlation of their
    features; that of their class indicators is the same for all pairs of different classes, and 0 within
    a class. The score is 100 times Spearman's correlation over all pairs of images. It needs memory for
    N^2 numbers. Two images without any variation in their features have the distance 1, and features or
    labels with equal distances everywhere score 0.
    """

    name: ClassVar[str] = "parc"
    bounds: ClassVar[tuple[float, float]] = (-100, 100)

    def score(self, given: ScorerInput) -> float:
        """Compute the rank correlation in percent."""
        deviation = given.features.std(0)
        centered = given.features - given.features.mean(0)
        standard = centered / np.where(deviation > 0, deviation, 1)
        standard -= standard.mean(1, keepdims=True)
        lengths = np.linalg.norm(standard, axis=1, keepdims=True)
        units = standard / np.where(lengths > 0, lengths, 1)
        pairs = np.triu_indices(len(units), 1)
        distances = 1 - (units @ units.T)[pairs]
        differ = (given.labels[pairs[0]] != given.labels[pairs[1]]).astype(np.float64)
        return 100 * _correlation(_ranks(distances), _ranks(differ))


def _ranks(values: Floats) -> Floats:
    """Return ranks from 1; equal values share the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last: NDArray[np.intp] = counts.cumsum()
    return np.asarray((last - (counts - 1) / 2)[which], dtype=np.float64)


def _correlation(one: Floats, other: Floats) -> float:
    """Return Pearson's correlation; 0 if one of both is constant."""
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / scale if scale > 0 else 0.0

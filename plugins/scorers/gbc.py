"""GBC: how much the classes overlap if each is a Gaussian."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from visiongraft.advice.probes import one_hot
from visiongraft.options import check_integer
from visiongraft.scorers import Scorer, ScorerInput

FLOOR = 1e-4  # of variances


class GBC(Scorer):
    """GBC: the Gaussian Bhattacharyya coefficients of all pairs of classes (Pandy et al., 2022).

    Each class is a Gaussian with a diagonal covariance in the space of the first principal components.
    The score is ``-sum over ordered pairs of exp(-d)`` with the Bhattacharyya distance ::

        d = sum_k (m_k - m'_k)^2 / (8 v_k) + ln(v_k / sqrt(s_k s'_k)) / 2,  v = (s + s') / 2

    of means ``m`` and variances ``s``, which are at least 1e-4, also for a class with one image. It is
    between ``-C (C - 1)`` (equal classes) and 0.

    Args:
        dimensions: Number of principal components.
    """

    name: ClassVar[str] = "gbc"
    bounds: ClassVar[tuple[float, float]] = (-np.inf, 0)

    def __init__(self, *, dimensions: int = 64) -> None:
        check_integer("dimensions", dimensions, 1)
        self.dimensions = dimensions

    def score(self, given: ScorerInput) -> float:
        """Compute the negative sum of the coefficients."""
        centered = given.features - given.features.mean(0)
        left, values, _ = np.linalg.svd(centered, full_matrices=False)
        components = (left * values)[:, : self.dimensions]
        indicators = one_hot(given.labels)
        weights = indicators / indicators.sum(0)
        means = weights.T @ components  # (C, K)
        deviations = (components - means[given.labels]) ** 2
        variances = np.maximum(weights.T @ deviations, FLOOR)
        total = 0.0
        for mean, variance in zip(means, variances, strict=True):
            both = (variances + variance) / 2
            distances = ((means - mean) ** 2 / both).sum(1) / 8
            distances += np.log(both / np.sqrt(variances * variance)).sum(1) / 2
            total += float(np.exp(-distances).sum()) - 1  # without the class itself
        return -total

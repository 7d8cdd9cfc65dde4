"""H-score: variance of features between classes, relative to their whole variance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from visiongraft.advice.probes import one_hot
from visiongraft.options import check_flag
from visiongraft.scorers import Floats, Scorer, ScorerInput


class HScore(Scorer):
    """H-score: ``tr(S^-1 B)`` (Bao et al., 2019), shrunk by Ledoit and Wolf (Ibrahim et al., 2021).

    ``S`` (D, D) is the covariance of the features, ``B`` that of the class mean of each image. With
    shrinkage by ``w``, ``S`` becomes ``(1 - w) S + w tr(S) / D I`` and ``B`` becomes ``(1 - w) B``.
    Without it, the inverse is the pseudoinverse, and with fewer images than features any features
    score ``C - 1``, even noise. Features that are all equal score 0.

    Args:
        shrinkage: Whether to shrink.
    """

    name: ClassVar[str] = "h_score"
    bounds: ClassVar[tuple[float, float]] = (0, np.inf)

    def __init__(self, *, shrinkage: bool = True) -> None:
        check_flag("shrinkage", shrinkage)
        self.shrinkage = shrinkage

    def score(self, given: ScorerInput) -> float:
        """Compute the trace in the basis of the covariance's eigenvectors."""
        centered = given.features - given.features.mean(0)
        left, values, _ = np.linalg.svd(centered, full_matrices=False)
        kept = values > values.max() * np.finfo(np.float64).eps * max(centered.shape)
        left, values = left[:, kept], values[kept]
        if not len(values):
            return 0.0
        indicators = one_hot(given.labels)
        counts = indicators.sum(0)
        eigenvalues = values**2 / len(centered)
        means = (indicators.T @ (left * values)) / counts[:, None]  # (C, K)
        between = (counts / len(centered)) @ means**2  # (K,)
        weight = _weight(centered, eigenvalues) if self.shrinkage else 0.0
        target = eigenvalues.sum() / centered.shape[1]
        shrunk = (1 - weight) * eigenvalues + weight * target
        return float((1 - weight) * (between / shrunk).sum())


def _weight(centered: Floats, eigenvalues: Floats) -> float:
    """Return the optimal shrinkage of a covariance (Ledoit and Wolf, 2004), in 0..1.

    Args:
        centered: float64 (N, D), centered features.
        eigenvalues: Those of their covariance that are above 0.
    """
    count, dimension = centered.shape
    square = float((eigenvalues**2).sum())
    distance = square - float(eigenvalues.sum()) ** 2 / dimension
    noise = (float(((centered**2).sum(1) ** 2).sum()) / count - square) / count
    if distance <= 0:
        return 0.0
    return float(np.clip(noise / distance, 0, 1))

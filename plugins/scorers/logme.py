"""LogME: the evidence of a Bayesian linear model from features to class indicators."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from visiongraft.advice.probes import one_hot
from visiongraft.scorers import Floats, Scorer, ScorerInput

POINTS = 65  # of the search for the best ratio of precisions
ZOOMS = 4  # each narrows the search to the neighbors of the best point


class LogME(Scorer):
    """LogME: mean log evidence of class indicators given the features (You et al., 2021).

    For the indicators ``y`` (N,) of each class: ``y = F w + noise`` with weights of precision ``a``
    and noise of precision ``b``. The evidence is maximized over both; with the eigenvalues ``s_k`` of
    ``F^T F``, ``x = U^T y`` and the ratio ``t = a / b`` it is ::

        2 ln p = sum_k ln(t / (t + s_k)) - N ln(r(t) / N) - N - N ln(2 pi),
        r(t) = |y|^2 - |x|^2 + sum_k t x_k^2 / (t + s_k)

    and the score is the mean of ``ln p / N`` over classes. The sums run over eigenvalues above 0, which
    is right for fewer images than features too. There is no intercept, as in the paper. The scale of
    the features does not matter. The ratio is searched on a grid over its whole range instead of by
    the paper's fixed-point iteration, which need not converge.

    Features that fit the indicators exactly have a bounded score: the remainder ``r`` is taken to be at
    least ``1e-12 |y|^2``.
    """

    name: ClassVar[str] = "logme"

    def score(self, given: ScorerInput) -> float:
        """Compute the mean log evidence per image."""
        left, values, _ = np.linalg.svd(given.features, full_matrices=False)
        kept = values > values.max() * np.finfo(np.float64).eps * max(given.features.shape)
        left, squares = left[:, kept], values[kept] ** 2
        indicators = one_hot(given.labels)
        loads = (left.T @ indicators) ** 2  # (K, C)
        norms = (indicators**2).sum(0)
        evidence = [
            _evidence(squares, load, norm, len(indicators))
            for load, norm in zip(loads.T, norms, strict=True)
        ]
        return float(np.mean(evidence)) / len(indicators)


def _evidence(squares: Floats, loads: Floats, norm: float, count: int) -> float:
    """Return the largest log evidence of one class.

    Args:
        squares: Eigenvalues ``s``, float64 (K,), above 0.
        loads: ``x**2``, float64 (K,).
        norm: ``|y|^2``.
        count: Number of images N.
    """

    def at(log_ratios: Floats) -> Floats:
        ratios = np.exp(log_ratios)[:, None]
        parts = ratios / (ratios + squares)
        rest = np.maximum(norm - loads.sum() + parts @ loads, 1e-12 * norm)
        logs = np.log(parts).sum(1)
        both = logs - count * (np.log(rest / count) + 1 + np.log(2 * np.pi))
        return np.asarray(both / 2)

    if not len(squares):  # all features are 0
        return float(at(np.zeros(1))[0])
    low, high = np.log(squares.min()) - 20, np.log(squares.max()) + 20
    for _ in range(ZOOMS):
        grid = np.linspace(low, high, POINTS)
        values = at(grid)
        best = int(values.argmax())
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, POINTS - 1)]
    return float(values.max())

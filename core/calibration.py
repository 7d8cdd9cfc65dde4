"""How certain a classifier may be: the factor of its logits that predicts labels best."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def best_factor(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.int64], factors: Iterable[float]
) -> float:
    """Choose the factor of logits with the least cross-entropy; its inverse is a temperature.

    Labels are smoothed by a single count over all classes (after Platt, 1999): without it, N correct
    predictions would ask for certainty. "On calibration of modern neural networks" (Guo et al., 2017).

    Args:
        logits: float (N, C).
        labels: Class ids, int64 (N,).
        factors: Candidates.

    Returns:
        One of ``factors``.

    Examples:
        >>> sure = np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [9.0, 0.0]])  # one of which is wrong
        >>> best_factor(sure, np.array([0, 0, 0, 1]), [0.03, 0.1, 0.3, 1.0])
        0.1
    """
    count, classes = logits.shape
    wanted = (count * np.eye(classes)[labels] + 1 / classes) / (count + 1)

    def cross_entropy(factor: float) -> float:
        scaled = factor * logits
        top = scaled.max(axis=1, keepdims=True)
        totals = top[:, 0] + np.log(np.exp(scaled - top).sum(axis=1))
        return float((totals - (wanted * scaled).sum(axis=1)).mean())

    return min(factors, key=cross_entropy)

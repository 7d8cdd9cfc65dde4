"""A linear classifier in closed form, from which training starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.ridge import Floats, fit_ridge
from visiongraft.calibration import best_factor

TEMPERATURES = np.logspace(0, 2, 41)


def linear_classifier(
    features: Floats, labels: NDArray[np.int64], classes: int
) -> tuple[Floats, Floats]:
    """Fit a linear classifier with calibrated probabilities.

    Ridge regression to class indicators gives scores; their factor is the one of 41 with the least
    cross-entropy of what each image is predicted by the fit to all others, so that probabilities are
    as certain as predictions of new images deserve.

    Args:
        features: Embeddings, float (N, D).
        labels: Class ids, int64 (N,).
        classes: Number of classes, C; some may have no image.

    Returns:
        Weight (C, D) and bias (C,), float64, of the layer that computes logits.

    Examples:
        >>> features = np.array([[-1.0, 0.3], [-1.1, 0.2], [1.0, 0.1], [1.2, 0.4]])
        >>> weight, bias = linear_classifier(features, np.array([0, 0, 1, 1]), 2)
        >>> (features @ weight.T + bias).argmax(axis=1).tolist()
        [0, 0, 1, 1]
    """
    fit = fit_ridge(features, np.eye(classes)[labels])
    factor = best_factor(fit.left_out, labels, TEMPERATURES)
    return factor * fit.weight, factor * fit.bias

"""A linear classifier in closed form, from which training starts."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.ridge import Floats, fit_ridge
from visiongraft.calibration import best_factor

TEMPERATURES = np.logspace(0, 2, 41)


@dataclass(frozen=True)
class LinearClassifier:
    """A layer that computes logits, as it was fitted.

    Attributes:
        weight: float64 (C, D).
        bias: float64 (C,).
        accuracy: Balanced accuracy of what each image is predicted by the fit to all others, in [0, 1], over the
            classes of at least two images; ``None`` if there is none.
        factor: What scores, which are near 0 and 1, are multiplied by to be logits; higher is more certain.
    """

    weight: Floats
    bias: Floats
    accuracy: float | None
    factor: float


def linear_classifier(
    features: Floats, labels: NDArray[np.int64], classes: int, highest: float | None = None
) -> LinearClassifier:
    """Fit a linear classifier with calibrated probabilities.

    Ridge regression to class indicators gives scores; their factor is the one of 41 with the least
    cross-entropy of what each image is predicted by the fit to all others, so that probabilities are
    as certain as predictions of new images deserve.

    Args:
        features: Embeddings, float (N, D).
        labels: Class ids, int64 (N,).
        classes: Number of classes, C; some may have no image.
        highest: Limit of the factor; ``None`` for no limit.

    Returns:
        The layer, and its accuracy.

    Examples:
        >>> features = np.array([[-1.0, 0.3], [-1.1, 0.2], [1.0, 0.1], [1.2, 0.4]])
        >>> layer = linear_classifier(features, np.array([0, 0, 1, 1]), 2)
        >>> (features @ layer.weight.T + layer.bias).argmax(axis=1).tolist(), layer.accuracy
        ([0, 0, 1, 1], 1.0)
    """
    fit = fit_ridge(features, np.eye(classes)[labels])
    factor = float(best_factor(fit.left_out, labels, TEMPERATURES))
    factor = factor if highest is None else min(factor, highest)
    right = fit.left_out.argmax(axis=1) == labels
    # No fit to all others knows the class of an only image.
    known = np.flatnonzero(np.bincount(labels) > 1)
    each = [float(right[labels == label].mean()) for label in known]
    accuracy = fmean(each) if each else None
    return LinearClassifier(factor * fit.weight, factor * fit.bias, accuracy, factor)

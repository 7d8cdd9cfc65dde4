"""Ridge regression to class indicators in closed form, with what each fit without one image predicts for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

PENALTIES = np.logspace(-6, 1, 15)  # relative to the largest eigenvalue


@dataclass(frozen=True)
class Ridge:
    """A linear map that was fitted in closed form.

    Attributes:
        weight: float64 (C, D).
        bias: float64 (C,).
        penalty: Factor on the squared norm of ``weight`` in what is minimized, beside squared errors.
        left_out: float64 (N, C), for each of the N samples the prediction of the fit to all others.
    """

    weight: Floats
    bias: Floats
    penalty: float
    left_out: Floats


def fit_ridge(features: Floats, targets: Floats) -> Ridge:
    """Fit ridge regression with intercept, and choose its penalty by leaving one sample out.

    What each of the N fits without one sample predicts for it follows exactly from one singular value
    decomposition: ``y_i - (y_i - p_i) / (1 - H_ii)``, where ``H`` is the matrix from targets to predictions
    ``p`` (Allen, 1974). The penalty is the one of 15 with the least mean squared error of these predictions.

    Args:
        features: float (N, D), N of at least 2.
        targets: float (N, C), such as class indicators.

    Returns:
        The fit, in double precision.

    Examples:
        >>> line = fit_ridge(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([[1.0], [3.0], [5.0], [7.0]]))
        >>> line.weight.round(2).tolist(), line.bias.round(2).tolist()
        ([[2.0]], [1.0])
    """
    features, targets = features.astype(np.float64), targets.astype(np.float64)
    center, means = features.mean(0), targets.mean(0)
    left, values, right = np.linalg.svd(features - center, full_matrices=False)
    squares, loads = values**2, left.T @ (targets - means)
    best, chosen, kept = np.inf, 1.0, targets
    for penalty in PENALTIES * (squares.max() or 1.0):
        shrunk = squares / (squares + penalty)
        leverage = 1 / len(features) + left**2 @ shrunk
        errors = (targets - means - (left * shrunk) @ loads) / np.maximum(1 - leverage, 1e-12)[
            :, None
        ]
        error = float((errors**2).mean())
        if error < best:
            best, chosen, kept = error, float(penalty), targets - errors
    weight = ((values / (squares + chosen))[:, None] * loads).T @ right
    return Ridge(weight, means - weight @ center, chosen, kept)

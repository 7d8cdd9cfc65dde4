"""Ridge regression in closed form, against fits that leave each sample out one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visiongraft.advice.ridge import PENALTIES, fit_ridge


def plain_fit(features: Any, targets: Any, penalty: float) -> tuple[Any, Any]:
    """Solve the normal equations."""
    center, means = features.mean(0), targets.mean(0)
    x, y = features - center, targets - means
    weight = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y).T
    return weight, means - weight @ center


@pytest.fixture(params=[(12, 4), (7, 30)], ids=["more samples", "more features"])
def problem(request: Any) -> tuple[Any, Any]:
    samples, dim = request.param
    random = np.random.default_rng(0)
    features = random.normal(2.0, 1.0, (samples, dim))
    return features, np.eye(3)[np.arange(samples) % 3] + 0.1 * features[:, :3]


def test_it_solves_the_normal_equations(problem: tuple[Any, Any]) -> None:
    features, targets = problem
    fit = fit_ridge(features, targets)
    weight, bias = plain_fit(features, targets, fit.penalty)
    np.testing.assert_allclose(fit.weight, weight, atol=1e-9)
    np.testing.assert_allclose(fit.bias, bias, atol=1e-9)


def test_predictions_of_left_out_samples_are_those_of_fits_without_them(
    problem: tuple[Any, Any],
) -> None:
    features, targets = problem
    fit = fit_ridge(features, targets)
    for i in range(len(features)):
        others = np.arange(len(features)) != i
        weight, bias = plain_fit(features[others], targets[others], fit.penalty)
        np.testing.assert_allclose(fit.left_out[i], weight @ features[i] + bias, atol=1e-8)


def test_the_penalty_predicts_left_out_samples_best(problem: tuple[Any, Any]) -> None:
    features, targets = problem

    def error(penalty: float) -> float:
        errors = []
        for i in range(len(features)):
            others = np.arange(len(features)) != i
            weight, bias = plain_fit(features[others], targets[others], penalty)
            errors.append(targets[i] - weight @ features[i] - bias)
        return float(np.mean(np.square(errors)))

    scale = np.linalg.svd(features - features.mean(0), compute_uv=False)[0] ** 2
    best = min(PENALTIES * scale, key=error)
    assert fit_ridge(features, targets).penalty == pytest.approx(best)


def test_constant_features_predict_the_mean() -> None:
    targets = np.eye(2)[[0, 0, 1]]
    fit = fit_ridge(np.ones((3, 4)), targets)
    assert not fit.weight.any()
    np.testing.assert_allclose(fit.bias, [2 / 3, 1 / 3])

"""LogME against the evidence of a dense Bayesian linear model, and against the paper's iteration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from visiongraft.plugins.scorers.logme import LogME

SHAPES = [(30, 5), (12, 12), (10, 40)]


def dense_evidence(features: Any, target: Any, a: float, b: float) -> float:
    """The log evidence of y = F w + noise with precisions a and b, as the paper writes it."""
    n, d = features.shape
    matrix = a * np.eye(d) + b * features.T @ features
    mean = b * np.linalg.solve(matrix, features.T @ target)
    return float(
        d / 2 * np.log(a)
        + n / 2 * np.log(b)
        - np.linalg.slogdet(matrix)[1] / 2
        - b / 2 * ((features @ mean - target) ** 2).sum()
        - a / 2 * (mean**2).sum()
        - n / 2 * np.log(2 * np.pi)
    )


def largest_evidence(features: Any, target: Any) -> float:
    def loss(logs: Any) -> float:
        return -dense_evidence(features, target, *np.exp(logs.clip(-20, 20)))

    starts = [(u, 2.0) for u in (-2.0, 2.0, 6.0)]
    return -min(minimize(loss, start, method="Nelder-Mead").fun for start in starts)


@pytest.mark.parametrize(("images", "features"), SHAPES)
def test_the_score_is_the_largest_evidence_of_the_dense_model(
    images: int, features: int, make_scored: Any
) -> None:
    given = make_scored(images, features)
    expected = [largest_evidence(given.features, given.labels == c) for c in range(3)]
    assert LogME().score(given) == pytest.approx(np.mean(expected) / images, abs=1e-5)


def test_the_fixed_point_of_the_paper_is_the_same_maximum(make_scored: Any) -> None:
    given = make_scored(40, 4, classes=2)
    features, values = given.features, np.linalg.eigvalsh(given.features.T @ given.features)
    found = []
    for c in range(2):
        target, a, b = (given.labels == c).astype(float), 1.0, 1.0
        for _ in range(200):
            matrix = a * np.eye(4) + b * features.T @ features
            mean = b * np.linalg.solve(matrix, features.T @ target)
            gamma = (b * values / (a + b * values)).sum()
            a = gamma / (mean @ mean)
            b = (len(target) - gamma) / ((features @ mean - target) ** 2).sum()
        found.append(dense_evidence(features, target, a, b))
    assert LogME().score(given) == pytest.approx(np.mean(found) / 40, abs=1e-6)


def test_the_scale_and_a_rotation_of_the_features_do_not_matter(make_scored: Any) -> None:
    given = make_scored()
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    other = replace(given, features=1000 * given.features @ turned)
    assert LogME().score(other) == pytest.approx(LogME().score(given), rel=1e-6)


def test_more_features_of_noise_do_not_raise_the_score(make_scored: Any) -> None:
    noise = np.random.default_rng(0).normal(size=(30, 500))
    few, many = (replace(make_scored(), features=noise[:, :d]) for d in (20, 500))
    assert abs(LogME().score(few) - LogME().score(many)) < 0.1


def test_features_that_fit_exactly_have_a_finite_score(make_scored: Any) -> None:
    given = make_scored()
    exact = replace(given, features=np.eye(3)[given.labels])
    assert 5 < LogME().score(exact) < 50

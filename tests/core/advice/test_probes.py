"""Probes that leave one image out predict as fits without that image do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visiongraft.advice.probes import (
    fit_linear_probe,
    nearest_class_mean,
    nearest_neighbors,
)
from visiongraft.advice.ridge import PENALTIES


@pytest.fixture(params=[(18, 4), (9, 30)], ids=["more images", "more features"])
def features(request: Any) -> Any:
    images, dimension = request.param
    generator = np.random.default_rng(0)
    values = generator.normal(size=(images, dimension))
    values[:, 0] += labels_of(values)
    return values


def labels_of(features: Any) -> Any:
    return np.arange(len(features)) % 3


def ridge(features: Any, targets: Any, penalty: float, image: Any) -> Any:
    """Fit the normal equations of a ridge regression with intercept, and predict one image."""
    center, mean = features.mean(0), targets.mean(0)
    rows = features - center
    matrix = rows.T @ rows + penalty * np.eye(rows.shape[1])
    return mean + (image - center) @ np.linalg.solve(matrix, rows.T @ (targets - mean))


def test_the_linear_probe_is_refitted_without_each_image(features: Any) -> None:
    labels = labels_of(features)
    targets = np.eye(3)[labels]
    scale = np.linalg.eigvalsh(np.cov(features.T, bias=True)).max() * len(features)
    predicted = []
    for penalty in PENALTIES * scale:
        left_out = np.zeros_like(targets)
        for i in range(len(features)):
            kept = np.arange(len(features)) != i
            left_out[i] = ridge(features[kept], targets[kept], penalty, features[i])
        predicted.append((((targets - left_out) ** 2).mean(), left_out.argmax(1)))
    best = min(predicted, key=lambda pair: pair[0])[1]
    assert fit_linear_probe(features, labels).left_out.tolist() == best.tolist()


def test_other_images_are_predicted_by_the_same_regression(features: Any) -> None:
    labels = labels_of(features)
    scale = np.linalg.eigvalsh(np.cov(features.T, bias=True)).max() * len(features)
    probe = fit_linear_probe(features, labels)
    other = np.random.default_rng(1).normal(size=(5, features.shape[1]))
    scores = other @ probe.fit.weight.T + probe.fit.bias
    fits = [ridge(features, np.eye(3)[labels], p * scale, other) for p in PENALTIES]
    assert min(np.abs(scores - fit).max() for fit in fits) < 1e-6
    assert probe.predict(other).tolist() == scores.argmax(1).tolist()


def test_the_class_mean_is_computed_without_each_image(features: Any) -> None:
    labels = labels_of(features)
    expected = []
    for i in range(len(features)):
        kept = np.arange(len(features)) != i
        means = [features[kept & (labels == c)].mean(0) for c in range(3)]
        expected.append(np.argmin([np.linalg.norm(features[i] - mean) for mean in means]))
    assert nearest_class_mean(features, labels).tolist() == expected


@pytest.mark.parametrize("k", [1, 3])
def test_neighbors_are_the_most_similar_other_images(features: Any, k: int) -> None:
    labels = labels_of(features)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = []
    for i in range(len(features)):
        others = sorted(
            (j for j in range(len(features)) if j != i), key=lambda j: -units[i] @ units[j]
        )[:k]
        votes = [
            (
                sum(labels[j] == c for j in others),
                sum(units[i] @ units[j] * (labels[j] == c) for j in others),
            )
            for c in range(3)
        ]
        expected.append(max(range(3), key=lambda c: votes[c]))
    assert nearest_neighbors(features, labels, k).tolist() == expected


def test_an_image_that_occurs_twice_is_its_own_neighbor_once() -> None:
    features = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert nearest_neighbors(features, np.array([0, 1, 0, 1])).tolist() == [1, 0, 1, 0]


def test_the_only_image_of_a_class_is_never_predicted_as_it() -> None:
    features = np.array([[0.0], [0.1], [5.0]])
    assert nearest_class_mean(features, np.array([0, 0, 1])).tolist() == [0, 0, 0]

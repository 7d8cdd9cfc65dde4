"""Probes: simple classifiers on frozen features, each evaluated by leaving one image out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.ridge import Ridge, fit_ridge
from visiongraft.scorers import ClassIds, Floats

ROWS = 1024  # of the similarity matrix that are computed at once


def nearest_neighbors(features: Floats, labels: ClassIds, k: int = 1) -> ClassIds:
    """Classify each image by its nearest other images, by cosine similarity.

    Args:
        features: float64 (N, D).
        labels: int64 (N,), class ids.
        k: Number of neighbors; the larger total similarity decides between equal numbers of votes.

    Returns:
        Predicted class ids, int64 (N,).
    """
    count, classes = len(labels), int(labels.max()) + 1
    k = min(k, count - 1)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = features / np.where(lengths > 0, lengths, 1)
    predicted = np.empty(count, dtype=np.int64)
    for first in range(0, count, ROWS):
        rows = np.arange(first, min(first + ROWS, count))
        similar = units[rows] @ units.T
        similar[np.arange(len(rows)), rows] = -np.inf  # an image is no neighbor of itself
        nearest = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        votes = np.zeros((len(rows), classes))
        # Similarities of k neighbors add up to less than one vote.
        weights = 1 + np.take_along_axis(similar, nearest, axis=1) / (2 * k + 1)
        np.add.at(votes, (np.arange(len(rows))[:, None], labels[nearest]), weights)
        predicted[rows] = votes.argmax(axis=1)
    return predicted


def nearest_class_mean(features: Floats, labels: ClassIds) -> ClassIds:
    """Classify each image by the nearest class mean, in which it is not counted itself.

    Args:
        features: float64 (N, D).
        labels: int64 (N,), class ids; each occurs.

    Returns:
        Predicted class ids, int64 (N,); never the own class of its only image.
    """
    sums = one_hot(labels).T @ features
    counts = np.bincount(labels)
    means = sums / counts[:, None]
    squares = (features**2).sum(1)[:, None]
    distances = squares - 2 * features @ means.T + (means**2).sum(1)
    # Without image i, its class has the mean (n m - x) / (n - 1), which is n / (n - 1) times as far.
    own = np.arange(len(labels)), labels
    n = counts[labels]
    squared = (n / np.maximum(n - 1, 1)) ** 2
    distances[own] = np.where(n > 1, np.maximum(distances[own], 0) * squared, np.inf)
    return np.asarray(distances.argmin(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class LinearProbe:
    """A ridge regression with intercept from features to class indicators.

    Attributes:
        fit: The regression.
        left_out: The class of each image that a fit to all other images predicts, int64 (N,).
    """

    fit: Ridge
    left_out: ClassIds

    def predict(self, features: Floats) -> ClassIds:
        """Classify other images by their features, float64 (M, D)."""
        scores = features @ self.fit.weight.T + self.fit.bias
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def fit_linear_probe(features: Floats, labels: ClassIds) -> LinearProbe:
    """Fit a linear probe, and classify each image by the probe that was fitted to all other images.

    Args:
        features: float64 (N, D).
        labels: int64 (N,), class ids.

    Returns:
        The probe.
    """
    fit = fit_ridge(features, one_hot(labels))
    return LinearProbe(fit, np.asarray(fit.left_out.argmax(axis=1), dtype=np.int64))


def one_hot(labels: ClassIds) -> NDArray[np.float64]:
    """Return class indicators, float64 (N, C)."""
    return np.eye(int(labels.max()) + 1)[labels]

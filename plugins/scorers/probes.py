"""Accuracies of simple classifiers on frozen features, as baselines of all other scores."""

from __future__ import annotations

from typing import ClassVar

from visiongraft.advice.probes import fit_linear_probe, nearest_class_mean, nearest_neighbors
from visiongraft.options import check_integer
from visiongraft.scorers import Scorer, ScorerInput


class ProbeAccuracy(Scorer):
    """Accuracy of a linear probe, a ridge regression to class indicators; one image is left out each time."""

    name: ClassVar[str] = "linear_probe"
    bounds: ClassVar[tuple[float, float]] = (0, 1)

    def score(self, given: ScorerInput) -> float:
        """Compute the accuracy."""
        found = fit_linear_probe(given.features, given.labels).left_out
        return float((found == given.labels).mean())


class NearestNeighbors(Scorer):
    """Accuracy of the nearest other images, by cosine similarity.

    Args:
        k: Number of neighbors that vote.
    """

    name: ClassVar[str] = "knn"
    bounds: ClassVar[tuple[float, float]] = (0, 1)

    def __init__(self, *, k: int = 1) -> None:
        check_integer("k", k, 1)
        self.k = k

    def score(self, given: ScorerInput) -> float:
        """Compute the accuracy."""
        found = nearest_neighbors(given.features, given.labels, self.k)
        return float((found == given.labels).mean())


class ClassMean(Scorer):
    """Accuracy of the nearest class mean, in which the image is not counted itself."""

    name: ClassVar[str] = "class_mean"
    bounds: ClassVar[tuple[float, float]] = (0, 1)

    def score(self, given: ScorerInput) -> float:
        """Compute the accuracy."""
        return float((nearest_class_mean(given.features, given.labels) == given.labels).mean())

"""A linear map from embeddings of images to the space of texts, fitted to images of some classes.

"DeViSE: A Deep Visual-Semantic Embedding Model" (Frome et al., 2013), here with a map in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.ridge import fit_ridge

Floats = NDArray[np.float64]
ClassIds = NDArray[np.int64]

FOLDS = 4  # groups of classes that are left out in turn
FEWEST = 4  # seen classes from which on some can be left out
PENALTIES = np.linspace(0, 2, 401)  # on the cosines of seen classes


@dataclass(frozen=True)
class TextMap:
    """A fitted map: ``unit(projection @ embedding + offset)`` is compared with ``vectors``.

    Attributes:
        projection: float64 (dim, D).
        offset: float64 (dim,).
        cosines: float64 (N, C), of each of the N images with each class by the map that was fitted to
            all other images.
    """

    projection: Floats
    offset: Floats
    cosines: Floats


def fit_map(features: Floats, labels: ClassIds, vectors: Floats) -> TextMap:
    """Fit ridge regression from embeddings to the vectors of the images' classes.

    Args:
        features: float64 (N, D).
        labels: int64 (N,).
        vectors: float64 (C, dim), of length 1; classes may have no image.
    """
    fit = fit_ridge(features, vectors[labels])
    return TextMap(
        fit.weight.astype(np.float64),
        fit.bias.astype(np.float64),
        _unit(fit.left_out.astype(np.float64)) @ vectors.T,
    )


def choose_seen_penalty(features: Floats, labels: ClassIds, vectors: Floats) -> float | None:
    """Choose what to subtract from the cosines of seen classes, so that unseen ones are predicted, too.

    Images are nearest to classes that the map was fitted to. "An empirical study and analysis of
    generalized zero-shot learning for object recognition in the wild" (Chao et al., 2016) subtracts a
    constant from the scores of these (calibrated stacking). Here groups of seen classes are left out in
    turn, and the constant is that with the best harmonic mean of the accuracies on images of classes
    that were left out and of others, all classes competing.

    Args:
        features: float64 (N, D).
        labels: int64 (N,).
        vectors: float64 (C, dim), of length 1.

    Returns:
        The constant; ``None`` if there are fewer than four seen classes.
    """
    seen = np.unique(labels)
    if len(seen) < FEWEST:
        return None
    means = np.zeros(len(PENALTIES))
    for fold in range(FOLDS):
        left_out = seen[fold::FOLDS]
        kept = ~np.isin(labels, left_out)
        fitted = fit_map(features[kept], labels[kept], vectors)
        mapped = _unit(features[~kept] @ fitted.projection.T + fitted.offset) @ vectors.T
        seen_right = _right(fitted.cosines, labels[kept], seen, left_out)
        unseen_right = _right(mapped, labels[~kept], seen, left_out)
        total = np.maximum(seen_right + unseen_right, 1e-12)
        means += 2 * seen_right * unseen_right / total / FOLDS
    return float(PENALTIES[means.argmax()])


def _right(cosines: Floats, labels: ClassIds, candidates: ClassIds, free: ClassIds) -> Floats:
    """Return the fraction of correct predictions by penalty on all candidates that are not ``free``."""
    penalized = ~np.isin(candidates, free)
    scores = cosines[:, candidates]
    found = [
        (candidates[(scores - penalty * penalized).argmax(1)] == labels).mean()
        for penalty in PENALTIES
    ]
    return np.array(found)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit

"""How far generated images are from real ones, from features of both. Imports numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]

NEIGHBORS = 3  # as in the paper


def frechet_distance(real: Features, drawn: Features) -> float:
    """Compute the Fréchet distance between two normal distributions (Heusel et al., 2017).

    With the Inception network as the feature network this is the FID. It is biased: fewer images have
    a larger distance, so compare only values of as many images. With one image its covariance is 0.

    Args:
        real: float64 (N, D).
        drawn: float64 (M, D).

    Returns:
        The squared distance of means and covariances, at least 0.
    """
    one, other = _factor(real), _factor(drawn)
    # The trace of the root of a product of covariances is the sum of singular values of this product.
    shared = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    moved = np.square(real.mean(0) - drawn.mean(0)).sum()
    return float(max(moved + np.square(one).sum() + np.square(other).sum() - 2 * shared, 0.0))


def kernel_distance(real: Features, drawn: Features) -> float:
    """Compute the squared maximum mean discrepancy of a cubic kernel (Bińkowski et al., 2018).

    With the Inception network as the feature network this is the KID. The estimate is unbiased, over
    all images at once, and can be slightly negative; with fewer than two images on a side it is the
    biased one.

    Args:
        real: float64 (N, D).
        drawn: float64 (M, D).
    """
    within = _mean_kernel(real) + _mean_kernel(drawn)
    return float(within - 2 * _kernel(real, drawn).mean())


def precision_and_recall(real: Features, drawn: Features) -> tuple[float, float]:
    """Compute which fractions of images lie among those of the other kind (Kynkäänniemi et al., 2019).

    An image lies among others if it is no further from one of them than that one's third-nearest
    neighbor of its own kind.

    Args:
        real: float64 (N, D).
        drawn: float64 (M, D).

    Returns:
        The fraction of drawn images among real ones, and of real images among drawn ones, in 0..1.

    Examples:
        >>> line = np.arange(10.0)[:, None]
        >>> precision_and_recall(line, line[:5])
        (1.0, 0.8)
    """
    between = _distances(real, drawn)
    precision = (between <= _radii(real)[:, None]).any(0).mean()
    recall = (between <= _radii(drawn)[None]).any(1).mean()
    return float(precision), float(recall)


def _factor(features: Features) -> Features:
    """Return R with R^T R the covariance, and no more rows than columns."""
    centered = features - features.mean(0)
    root = np.linalg.qr(centered, mode="r") if len(features) > 1 else np.zeros_like(centered)
    return np.asarray(root / np.sqrt(max(len(features) - 1, 1)))


def _kernel(one: Features, other: Features) -> Features:
    return np.asarray((one @ other.T / one.shape[1] + 1) ** 3)


def _mean_kernel(features: Features) -> float:
    """Return the mean over pairs of two different images."""
    values, count = _kernel(features, features), len(features)
    if count < 2:
        return float(values.mean())
    return float((values.sum() - np.trace(values)) / (count * (count - 1)))


def _distances(one: Features, other: Features) -> Features:
    squares = np.square(one).sum(1)[:, None] + np.square(other).sum(1)[None]
    return np.asarray(np.sqrt(np.maximum(squares - 2 * one @ other.T, 0)))


def _radii(features: Features) -> Features:
    """Return the distance of each image to its third-nearest neighbor, or to the last there is."""
    nearest = np.sort(_distances(features, features), axis=1)  # the first is the image itself
    return np.asarray(nearest[:, min(NEIGHBORS, len(features) - 1)])

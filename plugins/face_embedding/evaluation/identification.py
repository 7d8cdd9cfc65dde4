"""Metrics of identification (who is it?) and retrieval (which images show the same identity?)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RANKS = 20  # of the CMC curve
NEIGHBORS = (1, 5, 10)
CHUNK = 1024  # rows of the similarity matrix in memory at a time

Vectors = NDArray[np.float32]


def identify(embeddings: Vectors, identities: Sequence[str]) -> dict[str, Any]:
    """Measure closed-set identification.

    The first images of all identities are the gallery; every other image is a probe. Gallery images
    of other identities that are as similar as the right one count as more similar.

    Args:
        embeddings: float32 (N, D), unit vectors.
        identities: Name of the identity of each image.

    Returns:
        ``rank1`` and ``rank5``, the fraction of probes whose identity is the nearest or among the
        five nearest of the gallery, and ``cmc``, the fractions for ranks 1 to 20; ``None`` without
        probes.
    """
    names = np.asarray(identities, dtype=object).astype(str)
    _, first, codes = np.unique(names, return_index=True, return_inverse=True)
    probes = np.setdiff1d(np.arange(len(names)), first)
    if not len(probes):
        return {"rank1": None, "rank5": None, "cmc": []}
    ranks = []
    for rows in _chunks(probes):
        similarities = embeddings[rows] @ embeddings[first].T
        own = similarities[np.arange(len(rows)), codes[rows]]
        ranks.append((similarities >= own[:, None]).sum(1))
    found = np.concatenate(ranks)
    cmc = [float((found <= rank).mean()) for rank in range(1, min(RANKS, len(first)) + 1)]
    return {"rank1": cmc[0], "rank5": cmc[min(5, len(cmc)) - 1], "cmc": cmc}


def retrieve(embeddings: Vectors, identities: Sequence[str]) -> dict[str, Any]:
    """Measure retrieval: each image is a query against all others.

    Only images whose identity has another image are queries.

    Args:
        embeddings: float32 (N, D), unit vectors.
        identities: Name of the identity of each image.

    Returns:
        ``recall_at_1``, ``_5`` and ``_10``: the fraction of queries with an image of the same
        identity among the 1, 5 or 10 nearest; ``map_at_r``: mean average precision at R (Musgrave
        et al., 2020, "A metric learning reality check"), where R is the number of other images of
        the identity. ``None`` without queries.
    """
    names = np.asarray(identities, dtype=object).astype(str)
    _, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(counts[codes] > 1)
    if not len(queries):
        return {**{f"recall_at_{k}": None for k in NEIGHBORS}, "map_at_r": None}
    depth = min(max(int(counts.max()) - 1, *NEIGHBORS), len(names) - 1)
    hits, precision = {k: 0 for k in NEIGHBORS}, 0.0
    for rows in _chunks(queries):
        nearest = _nearest_others(embeddings, rows, depth)
        same = codes[nearest] == codes[rows][:, None]
        for k in NEIGHBORS:
            hits[k] += int(same[:, :k].any(1).sum())
        relevant = counts[codes[rows]] - 1
        within = np.arange(depth) < relevant[:, None]
        so_far = np.cumsum(same, axis=1) / np.arange(1, depth + 1)
        precision += float(((so_far * same * within).sum(1) / relevant).sum())
    fractions = {f"recall_at_{k}": hits[k] / len(queries) for k in NEIGHBORS}
    return {**fractions, "map_at_r": precision / len(queries)}


def _nearest_others(embeddings: Vectors, rows: NDArray[np.int64], depth: int) -> NDArray[Any]:
    """Return the positions of the nearest other images, nearest first."""
    similarities = embeddings[rows] @ embeddings.T
    similarities[np.arange(len(rows)), rows] = -np.inf
    if depth < similarities.shape[1] - 1:
        some = np.argpartition(-similarities, depth - 1, axis=1)[:, :depth]
    else:
        some = np.argsort(-similarities, axis=1, kind="stable")[:, :depth]
    order = np.argsort(-np.take_along_axis(similarities, some, 1), axis=1, kind="stable")
    return np.take_along_axis(some, order, 1)


def _chunks(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]

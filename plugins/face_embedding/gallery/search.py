"""Nearest-neighbor search over unit vectors, with faiss if it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SIMILARITIES = 32_000_000  # in memory at a time

Vectors = NDArray[np.float32]


class Index:
    """Exhaustive search for the vectors with the largest inner products.

    Args:
        vectors: float32 (N, D).
        engine: ``"faiss"``, ``"matrix"`` (a matrix product), or ``None`` for faiss if it is
            installed. The results are equal except for rounding.

    Attributes:
        engine: The engine in use.
    """

    def __init__(self, vectors: Vectors, engine: str | None = None) -> None:
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._faiss: Any = None if engine == "matrix" else _flat_index(self.vectors, engine)
        self.engine = "matrix" if self._faiss is None else "faiss"

    def nearest(self, queries: Vectors, count: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Find the nearest vectors.

        Args:
            queries: float32 (Q, D).
            count: Number of results per query; fewer if there are fewer vectors.

        Returns:
            Inner products, in descending order, and positions; both (Q, count).
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        count = min(count, len(self.vectors))
        if self._faiss is not None and count:
            similarities, positions = self._faiss.search(queries, count)
            return similarities, positions
        rows = max(MAX_SIMILARITIES // max(len(self.vectors), 1), 1)
        chunks = [
            self._product(queries[i : i + rows], count)
            for i in range(0, max(len(queries), 1), rows)
        ]
        return np.concatenate([s for s, _ in chunks]), np.concatenate([p for _, p in chunks])

    def _product(self, queries: Vectors, count: int) -> tuple[Vectors, NDArray[np.int64]]:
        similarities = queries @ self.vectors.T
        rest = len(self.vectors) - count
        if count == 1:
            some = similarities.argmax(axis=1, keepdims=True)
        elif 0 < count and rest:
            some = np.argpartition(similarities, rest, axis=1)[:, rest:]
        else:
            some = np.broadcast_to(np.arange(count), (len(queries), count))
        values = np.take_along_axis(similarities, some, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        return np.take_along_axis(values, order, 1), np.take_along_axis(some, order, 1)


def _flat_index(vectors: Vectors, engine: str | None) -> Any:
    try:
        import faiss  # an extra: it is large, and only large galleries benefit
    except ImportError:
        if engine == "faiss":
            raise
        return None
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index

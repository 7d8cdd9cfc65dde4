"""The nearest of many unit vectors: by faiss where it is installed, else by a matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 32_000_000  # similarities that are in memory at a time

Vectors = NDArray[np.float32]


class Index:
    """Finds the vectors with the greatest scalar product, by comparing with all.

    Args:
        vectors: float32 (N, D).
        engine: ``"faiss"``, ``"matrix"``, or ``None`` for faiss where it is installed. Both give
            the same, but for rounding.

    Attributes:
        engine: Which one it is.
    """

    def __init__(self, vectors: Vectors, engine: str | None = None) -> None:
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._faiss: Any = None if engine == "matrix" else _flat_index(self.vectors, engine)
        self.engine = "matrix" if self._faiss is None else "faiss"

    def nearest(self, queries: Vectors, count: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Find the nearest vectors.

        Args:
            queries: float32 (Q, D).
            count: How many for each; fewer if there are fewer vectors.

        Returns:
            Scalar products, falling, and positions; both (Q, count).
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        count = min(count, len(self.vectors))
        if self._faiss is not None and count:
            similarities, positions = self._faiss.search(queries, count)
            return similarities, positions
        rows = max(LARGEST // max(len(self.vectors), 1), 1)
        parts = [
            self._product(queries[i : i + rows], count)
            for i in range(0, max(len(queries), 1), rows)
        ]
        return np.concatenate([s for s, _ in parts]), np.concatenate([p for _, p in parts])

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
        import faiss  # an extra: large, and only large galleries gain by it
    except ImportError:
        if engine == "faiss":
            raise
        return None
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index

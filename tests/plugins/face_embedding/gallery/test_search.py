"""Nearest-neighbor search: faiss and the matrix product agree."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from visiongraft.plugins.face_embedding.gallery import search
from visiongraft.plugins.face_embedding.gallery.search import Index


def unit(count: int, dimension: int = 32, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("engine", ["matrix", "faiss"])
def test_the_nearest_are_those_of_a_plain_sort(engine: str) -> None:
    vectors, queries = unit(500), unit(20, seed=1)
    similarities, positions = Index(vectors, engine).nearest(queries, 7)
    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :7]
    assert (positions == expected).all()
    assert np.allclose(
        similarities, np.take_along_axis(queries @ vectors.T, expected, 1), atol=1e-6
    )


def test_the_work_is_done_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = unit(100), unit(9, seed=1)
    whole = Index(vectors, "matrix").nearest(queries, 3)
    monkeypatch.setattr(search, "MAX_SIMILARITIES", 250)
    parts = Index(vectors, "matrix").nearest(queries, 3)
    assert (whole[1] == parts[1]).all()


@pytest.mark.parametrize("engine", ["matrix", "faiss"])
def test_no_more_neighbors_than_vectors_are_returned(engine: str) -> None:
    similarities, positions = Index(unit(3), engine).nearest(unit(2, seed=1), 10)
    assert similarities.shape == positions.shape == (2, 3)
    empty, _ = Index(unit(3), engine).nearest(unit(2)[:0], 2)
    assert empty.shape == (0, 2)


def test_faiss_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Index(unit(3)).engine == "faiss"
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not
    assert Index(unit(3)).engine == "matrix"
    with pytest.raises(ImportError):
        Index(unit(3), "faiss")

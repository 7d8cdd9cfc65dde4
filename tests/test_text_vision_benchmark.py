"""The benchmark of classes without images on toy embeddings, where the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.benchmark_scripts import load_script


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("text_vision", monkeypatch)


def embedded(vectors: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make embeddings that are a linear function of the classes' vectors, with noise."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(vectors)), 12)
    mixing = np.random.default_rng(9).normal(size=(vectors.shape[1], 20))
    return vectors[labels] @ mixing + 0.1 * generator.normal(size=(len(labels), 20)), labels


def test_unseen_classes_are_recognized_where_embeddings_follow_the_vectors(script: Any) -> None:
    vectors = script.centered(np.random.default_rng(0).normal(size=(8, 4)))
    train, test = embedded(vectors, 1), embedded(vectors, 2)
    found = script.measure_pair(train, test, vectors, (0, 5), generalized=True)
    assert found["unseen"] > 0.95
    assert found["penalized unseen"] >= found["plain unseen"]
    assert found["penalty"] >= 0


def test_shuffled_vectors_tell_nothing(script: Any) -> None:
    vectors = script.centered(np.random.default_rng(0).normal(size=(8, 4)))
    train, test = embedded(vectors, 1), embedded(vectors, 2)
    order = [1, 2, 3, 4, 5, 6, 7, 0]
    pairs = [(a, b) for a in range(8) for b in range(a)]
    right = [
        script.measure_pair(train, test, vectors[order], pair, generalized=False)["unseen"]
        for pair in pairs
    ]
    assert np.mean(right) < 0.75


def test_the_tables_have_a_row_for_each_kind_and_way(script: Any) -> None:
    row = {"unseen": 0.4, "penalty": 0.2, "plain seen": 0.8, "plain unseen": 0.0}
    row |= {"penalized seen": 0.5, "penalized unseen": 0.25}
    lines = script.summarize({"name": [row, {**row, "unseen": 0.8}]})
    assert "| name | 0.600 | 1 of 2 |" in lines
    assert "| name | 0.000 | 0.800 | 0.000 | 0.000 |" in lines
    assert "| name | 0.200 | 0.500 | 0.250 | 0.333 |" in lines

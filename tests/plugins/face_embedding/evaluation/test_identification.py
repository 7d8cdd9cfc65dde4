"""Identification and retrieval against scikit-learn and pytorch-metric-learning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, top_k_accuracy_score
from sklearn.neighbors import NearestNeighbors

from visiongraft.plugins.face_embedding.evaluation import identification
from visiongraft.plugins.face_embedding.evaluation.identification import identify, retrieve

Cloud = Callable[..., tuple[np.ndarray, list[str]]]


@pytest.fixture(scope="module")
def faces(cloud: Cloud) -> tuple[np.ndarray, list[str]]:
    vectors, names = cloud(30, 6, dimension=12, noise=1.2)
    order = np.random.default_rng(0).permutation(len(names))
    return vectors[order], [names[i] for i in order]


def test_ranks_are_top_k_accuracies_of_the_gallery(faces: tuple[np.ndarray, list[str]]) -> None:
    vectors, names = faces
    people, first = np.unique(names, return_index=True)
    probes = [i for i in range(len(names)) if i not in first]
    scores = vectors[probes] @ vectors[first].T
    truth = np.searchsorted(people, [names[i] for i in probes])
    found = identify(vectors, names)
    for k in (1, 5):
        expected = top_k_accuracy_score(truth, scores, k=k, labels=np.arange(30))
        assert found[f"rank{k}"] == pytest.approx(expected)
    curve = [top_k_accuracy_score(truth, scores, k=k, labels=np.arange(30)) for k in range(1, 21)]
    assert found["cmc"] == pytest.approx(curve)
    assert 0.2 < found["rank1"] < found["rank5"] < 1


def test_identities_with_one_image_are_in_the_gallery_as_distractors() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6]], dtype=np.float32)
    assert identify(vectors, ["a", "a", "b"])["rank1"] == 0  # b is nearer to the second of a
    assert identify(vectors[:2], ["a", "a"])["rank1"] == 1
    assert identify(vectors, ["a", "b", "c"])["rank1"] is None


def test_constant_embeddings_identify_nobody() -> None:
    vectors = np.ones((8, 4), dtype=np.float32) / 2
    found = identify(vectors, list("aabbccdd"))
    assert found["rank1"] == 0
    assert found["cmc"] == [0, 0, 0, 1]


def test_recall_equals_that_of_nearest_neighbors(faces: tuple[np.ndarray, list[str]]) -> None:
    vectors, names = faces
    array = np.array(names)
    nearest = NearestNeighbors(n_neighbors=11).fit(vectors).kneighbors(vectors)[1][:, 1:]
    same = array[nearest] == array[:, None]
    found = retrieve(vectors, names)
    for k in (1, 5, 10):
        assert found[f"recall_at_{k}"] == pytest.approx(same[:, :k].any(1).mean())


def test_map_at_r_is_that_of_pytorch_metric_learning(faces: tuple[np.ndarray, list[str]]) -> None:
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    vectors, names = faces
    labels = torch.tensor(np.unique(names, return_inverse=True)[1])
    calculator = AccuracyCalculator(include=("mean_average_precision_at_r", "precision_at_1"))
    expected = calculator.get_accuracy(torch.tensor(vectors), labels)
    found = retrieve(vectors, names)
    assert found["map_at_r"] == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-6)
    assert found["recall_at_1"] == pytest.approx(expected["precision_at_1"])


def test_map_at_r_of_one_query_is_an_average_precision_cut_at_r() -> None:
    angles = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    names = ["a", "b", "a", "b", "a"]
    # Query 0: b, a, ...: R = 2, precision at hit 2 is 1/2, over R: 1/4.
    full = average_precision_score([False, True, False, True], -angles[1:])
    assert full == 0.5  # with both hits; the cut leaves the first only
    relevant = [retrieve(vectors, names)["map_at_r"]]
    by_hand = np.mean([0.25, 0, 0.5 * 0, 0, 0.25])
    assert relevant == [pytest.approx(by_hand)]


def test_images_without_another_of_their_identity_are_not_queries(cloud: Cloud) -> None:
    vectors, _ = cloud(2, 3)
    alone = retrieve(vectors, list("abcdef"))
    assert alone == {
        "recall_at_1": None,
        "recall_at_5": None,
        "recall_at_10": None,
        "map_at_r": None,
    }
    some = retrieve(vectors[[0, 1, 3]], ["a", "a", "b"])
    assert some["recall_at_1"] == 1.0


def test_large_sets_are_worked_through_in_pieces(
    faces: tuple[np.ndarray, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, looked_up = identify(*faces), retrieve(*faces)
    monkeypatch.setattr(identification, "CHUNK", 7)
    assert identify(*faces)["cmc"] == pytest.approx(found["cmc"])
    assert retrieve(*faces) == pytest.approx(looked_up)

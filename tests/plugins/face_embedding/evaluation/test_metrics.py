"""The combined results of a dataset, which do not depend on the order of the images."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from visiongraft.errors import DataError
from visiongraft.plugins.face_embedding.evaluation.identification import identify, retrieve
from visiongraft.plugins.face_embedding.evaluation.metrics import FaceMetrics, listed_pairs
from visiongraft.plugins.face_embedding.evaluation.pairs import all_pairs, draw_pairs
from visiongraft.plugins.face_embedding.evaluation.protocol import (
    RocCurve,
    best_threshold,
    verify_in_folds,
)
from visiongraft.plugins.face_embedding.evaluation.threshold import threshold_for
from visiongraft.plugins.face_embedding.faces import Face
from visiongraft.plugins.face_embedding.task import FaceEmbedding

Cloud = Callable[..., tuple[np.ndarray, list[str]]]
TASK = FaceEmbedding()


def measure(vectors: np.ndarray, faces: list[Face], plan: list[list[int]]) -> dict[str, Any]:
    metrics = FaceMetrics()
    for batch in plan:
        targets = TASK.collate([faces[i] for i in batch])
        metrics.update({"embedding": vectors[batch]}, targets)
    return metrics.compute()


@pytest.fixture(scope="module")
def faces(cloud: Cloud) -> tuple[np.ndarray, list[Face]]:
    vectors, names = cloud(50, 4, noise=1.0)
    return vectors, [Face(name, i) for i, name in enumerate(names)]


def test_results_are_those_of_the_parts(faces: tuple[np.ndarray, list[Face]]) -> None:
    vectors, targets = faces
    names = [face.identity for face in targets]
    results = measure(vectors, targets, [list(range(len(targets)))])
    drawn, everything = draw_pairs(names), all_pairs(names)
    similar = [(vectors[p.first] * vectors[p.second]).sum(1) for p in (drawn, everything)]
    verified = verify_in_folds(similar[0].astype(float), drawn.same, drawn.folds)
    assert results["verification_accuracy"] == pytest.approx(verified.accuracy)
    assert results["verification_standard_error"] == pytest.approx(verified.standard_error)
    threshold = best_threshold(similar[0].astype(float), drawn.same)
    assert results["threshold_at_best_accuracy"] == pytest.approx(threshold, abs=1e-6)
    codes = np.unique(names, return_inverse=True)[1]
    chosen = threshold_for(
        similar[1].astype(float), codes[everything.first], codes[everything.second], 0.01
    )
    assert chosen.value is not None and chosen.interval is not None
    assert results["threshold"] == pytest.approx(chosen.value, abs=1e-6)
    assert results["threshold_false_accept_rate"] == pytest.approx(chosen.false_accept_rate)
    assert results["threshold_false_accept_interval"] == pytest.approx(chosen.interval)
    assert (results["threshold_people"], results["threshold_pairs_of_people"]) == (50, 1225)
    curve = RocCurve.of(similar[1].astype(float), everything.same)
    assert results["equal_error_rate"] == pytest.approx(curve.equal_error_rate(), abs=1e-6)
    assert results["roc_auc"] == pytest.approx(curve.area())
    assert results["rank1"] == identify(vectors, names)["rank1"]
    assert results["map_at_r"] == retrieve(vectors, names)["map_at_r"]
    assert (results["folds"], results["folds_share_no_identity"]) == (10, True)
    assert (results["pairs_listed"], results["identities"]) == (False, 50)


def test_order_and_batches_do_not_matter(faces: tuple[np.ndarray, list[Face]]) -> None:
    vectors, targets = faces
    order = np.random.default_rng(0).permutation(len(targets)).tolist()
    half = len(order) // 2
    plans = [
        [list(range(len(targets)))],
        [[i] for i in range(len(targets))],
        [order[:half], order[half:]],
        [order[0::2], order[1::2]],  # as two processes share them
    ]
    one, *others = [measure(vectors, targets, plan) for plan in plans]
    assert all(other == one for other in others)


def test_results_are_json(faces: tuple[np.ndarray, list[Face]]) -> None:
    results = measure(*faces, [list(range(len(faces[1])))])
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_undefined_results_are_none_and_the_headline_is_a_number(cloud: Cloud) -> None:
    vectors, _ = cloud(2, 1)
    results = measure(vectors, [Face("a", 0), Face("b", 1)], [[0, 1]])
    assert results["verification_accuracy"] == 0.0
    assert {
        results[k]
        for k in (
            "threshold",
            "threshold_at_best_accuracy",
            "rank1",
            "equal_error_rate",
            "map_at_r",
        )
    } == {None}
    json.dumps(results, allow_nan=False)


def test_a_rate_without_enough_people_gives_no_threshold_but_says_on_how_many_it_rests() -> None:
    vectors = np.eye(6, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    results = measure(vectors, [Face("abc"[i // 2], i) for i in range(6)], [[*range(6)]])
    assert results["verification_accuracy"] == 1.0
    assert (results["threshold"], results["threshold_false_accept_interval"]) == (None, None)
    assert (results["threshold_people"], results["threshold_pairs_of_people"]) == (3, 3)
    assert results["threshold_at_best_accuracy"] == 0.5


def test_equal_vectors_give_results_without_any_threshold() -> None:
    vectors = np.full((60, 3), 3**-0.5, np.float32)  # of length 1 and a bit
    results = measure(vectors, [Face(str(i // 2), i) for i in range(60)], [[*range(60)]])
    assert results["threshold"] is None
    assert FaceEmbedding().after_training(results).threshold is None
    assert results["threshold_at_best_accuracy"] is None or (
        -1 <= results["threshold_at_best_accuracy"] <= 1
    )


def test_no_images_are_an_error() -> None:
    with pytest.raises(DataError, match="no images to evaluate"):
        FaceMetrics().compute()


def test_pairs_with_a_missing_image_are_left_out() -> None:
    found = listed_pairs([((0, 0), (1, 1)), ((0, 0),), ((2, 1),)], ["a", "a", "b"])
    assert (found.first.tolist(), found.second.tolist()) == ([0], [1])
    assert found.same.tolist() == [True]
    assert found.listed


def test_listed_pairs_of_one_kind_are_not_measured() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    targets = [Face("a", 0, ((0, 0),)), Face("a", 1, ((0, 0),)), Face("b", 2), Face("b", 3)]
    results = measure(vectors, targets, [[0, 1, 2, 3]])
    assert not results["pairs_listed"]
    assert results["verification_accuracy"] == 1.0


def test_listed_pairs_determine_the_roc_curve_too(cloud: Cloud) -> None:
    vectors, _ = cloud(2, 2)
    pairs = (((0, 0), (2, 0)), ((0, 0),), ((1, 0), (2, 0)), ((1, 0),))
    targets = [Face("ab"[i // 2], i, pairs[i]) for i in range(4)]
    results = measure(vectors, targets, [[0, 1, 2, 3]])
    assert (results["pairs"], results["pairs_listed"]) == (3, True)
    assert results["tar_at_far_0.01"] is None  # one pair of two identities shows no such rate
    assert results["roc"]["far"][-1] == 1.0

"""Verification against scikit-learn and a brute-force search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve
from sklearn.model_selection import KFold

from visiongraft.plugins.face_embedding.evaluation.pairs import all_pairs, draw_pairs
from visiongraft.plugins.face_embedding.evaluation.protocol import (
    RocCurve,
    accept_rates,
    best_threshold,
    verify_in_folds,
)

Cloud = Callable[..., tuple[np.ndarray, list[str]]]


@pytest.fixture(scope="module")
def scores(cloud: Cloud) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of 19,900 pairs of synthetic embeddings, and which show one identity."""
    vectors, names = cloud(20, 10, noise=0.9)
    pairs = all_pairs(names)
    return (vectors[pairs.first] * vectors[pairs.second]).sum(1).astype(float), pairs.same


def brute_force(similarities: np.ndarray, same: np.ndarray) -> tuple[float, set[float]]:
    """Find the best accuracy and all thresholds between neighbors that reach it."""
    values = np.unique(similarities)
    cuts = [values[0], *((values[:-1] + values[1:]) / 2), np.nextafter(values[-1], np.inf)]
    accuracies = [accuracy_score(same, similarities >= cut) for cut in cuts]
    best = max(accuracies)
    return best, {cut for cut, a in zip(cuts, accuracies, strict=True) if a == best}


@pytest.mark.parametrize("seed", range(8))
def test_the_best_threshold_is_what_brute_force_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    same = random.random(60) < random.uniform(0.1, 0.9)
    similarities = (random.normal(same * 0.5, 0.4)).round(random.integers(1, 6))  # with equal ones
    accuracy, thresholds = brute_force(similarities, same)
    threshold = best_threshold(similarities, same)
    assert accuracy_score(same, similarities >= threshold) == accuracy
    assert threshold in thresholds


def test_of_equally_good_thresholds_the_one_with_most_room_is_taken() -> None:
    similarities = np.array([0.0, 0.1, 0.7, 0.8, 0.9])
    same = np.array([False, False, True, True, True])
    assert best_threshold(similarities, same) == pytest.approx(0.4)


def test_the_accuracy_in_folds_is_what_scikit_learn_computes(
    cloud: Cloud,
) -> None:
    vectors, names = cloud(20, 4, noise=1.1)
    pairs = draw_pairs(names)
    similarities = (vectors[pairs.first] * vectors[pairs.second]).sum(1).astype(float)
    expected = []
    for train, test in KFold(10).split(np.arange(10)):
        chosen, held = np.isin(pairs.folds, train), np.isin(pairs.folds, test)
        threshold = best_threshold(similarities[chosen], pairs.same[chosen])
        best, thresholds = brute_force(similarities[chosen], pairs.same[chosen])
        assert threshold in thresholds
        assert accuracy_score(pairs.same[chosen], similarities[chosen] >= threshold) == best
        expected.append(accuracy_score(pairs.same[held], similarities[held] >= threshold))
    found = verify_in_folds(similarities, pairs.same, pairs.folds)
    assert found.accuracy == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.standard_error == pytest.approx(np.std(expected, ddof=1) / np.sqrt(10))
    assert 0.5 < found.accuracy < 1.0  # something to be wrong about


def test_a_threshold_chosen_on_the_fold_itself_would_be_noticed() -> None:
    random = np.random.default_rng(0)
    same = np.tile([True, False], 30)
    similarities, folds = random.normal(size=60), np.repeat(np.arange(10), 6)
    itself = np.mean(
        [brute_force(similarities[folds == f], same[folds == f])[0] for f in range(10)]
    )
    assert verify_in_folds(similarities, same, folds).accuracy < itself - 0.1


def test_a_single_fold_is_measured_on_itself() -> None:
    same = np.array([True, False])
    found = verify_in_folds(np.array([0.9, 0.1]), same, np.zeros(2, int))
    assert (found.accuracy, found.standard_error) == (1.0, 0.0)


def test_constant_embeddings_are_right_by_chance_only() -> None:
    same = np.tile([True, False], 50)
    assert verify_in_folds(np.ones(100), same, np.repeat(np.arange(10), 10)).accuracy == 0.5


def test_the_curve_is_scikit_learns(scores: tuple[np.ndarray, np.ndarray]) -> None:
    similarities, same = scores
    far, tar, thresholds = roc_curve(same, similarities, drop_intermediate=False)
    curve = RocCurve.of(similarities, same)
    assert np.allclose(curve.far, far)
    assert np.allclose(curve.tar, tar)
    assert np.allclose(curve.thresholds, thresholds)
    assert curve.area() == pytest.approx(roc_auc_score(same, similarities), abs=1e-12)


def test_the_curve_takes_equal_similarities_together() -> None:
    similarities = np.array([0.5, 0.5, 0.2, 0.2])
    same = np.array([True, False, True, False])
    curve = RocCurve.of(similarities, same)
    assert curve.far.tolist() == [0, 0.5, 1]
    assert curve.area() == roc_auc_score(same, similarities) == 0.5


def test_the_equal_error_rate_is_where_both_errors_meet(
    scores: tuple[np.ndarray, np.ndarray],
) -> None:
    similarities, same = scores
    far, tar, _ = roc_curve(same, similarities, drop_intermediate=False)
    expected = brentq(lambda x: 1 - x - interp1d(far, tar)(x), 0, 1)
    found = RocCurve.of(similarities, same).equal_error_rate()
    assert found == pytest.approx(expected, abs=1 / (~same).sum())
    assert 0.01 < found < 0.4


def test_perfect_and_worst_scores_have_error_rates_nought_and_one() -> None:
    same = np.array([True] * 5 + [False] * 5)
    values = np.linspace(1, 0, 10)
    assert RocCurve.of(values, same).equal_error_rate() == 0
    assert RocCurve.of(-values, same).equal_error_rate() == 1


@pytest.mark.parametrize("rate", [1e-1, 1e-2, 1e-3])
def test_true_accepts_at_a_false_accept_rate_are_scikit_learns(
    scores: tuple[np.ndarray, np.ndarray], rate: float
) -> None:
    similarities, same = scores
    far, tar, _ = roc_curve(same, similarities, drop_intermediate=False)
    found = RocCurve.of(similarities, same).at_far(rate)
    assert found is not None
    assert found[0] == tar[far <= rate].max()
    accepted = similarities >= found[1]
    assert accepted[~same].mean() <= rate
    assert accepted[same].mean() == found[0]


def test_a_rate_that_the_pairs_cannot_show_is_unknown(
    scores: tuple[np.ndarray, np.ndarray],
) -> None:
    similarities, same = scores  # 19,000 pairs of two identities
    results = accept_rates(RocCurve.of(similarities, same))
    assert results["tar_at_far_0.0001"] is not None
    few = accept_rates(RocCurve.of(similarities[::20], same[::20]))
    assert few["tar_at_far_0.0001"] is None
    assert few["threshold_at_far_0.0001"] is None
    assert few["tar_at_far_0.01"] is not None


def test_the_curve_in_reports_is_short_and_rises(scores: tuple[np.ndarray, np.ndarray]) -> None:
    drawn = RocCurve.of(*scores).to_json()
    assert len(drawn["far"]) == len(drawn["tar"]) <= 201
    assert np.all(np.diff(drawn["far"]) >= 0)
    assert np.all(np.diff(drawn["tar"]) >= 0)
    assert (drawn["far"][-1], drawn["tar"][-1]) == (1.0, 1.0)

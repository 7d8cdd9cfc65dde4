"""Ranking: the same half samples for all backbones, intervals, ties, and refusals in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visiongraft.advice.ranking import describe_ranking, half_samples, rank
from visiongraft.errors import OptionError
from visiongraft.scorers import Scorer, ScorerChoice, ScorerInput


class Mean(Scorer):
    """Mean of the first feature."""

    name = "mean"
    bounds = (-10.0, 1.0)

    def score(self, given: ScorerInput) -> float:
        if not given.features.any():
            raise OptionError("all features are 0")
        return float(given.features[:, 0].mean())


MEAN = ScorerChoice("mean", Mean())


def make_given(name: str, level: float, noise: float = 1.0, images: int = 200) -> ScorerInput:
    drawn = np.random.default_rng(0).normal(size=(images, 1))
    labels = np.arange(images) % 2
    return ScorerInput(name, level + noise * drawn, labels, parameters=10)


def ranked(*inputs: ScorerInput) -> Any:
    return rank(inputs, [0.01] * len(inputs), [MEAN])


def test_half_samples_hold_half_of_each_class_and_at_least_one() -> None:
    labels = np.array([0] * 10 + [1] * 5 + [2])
    for half in half_samples(labels, seed=0):
        assert np.bincount(labels[half]).tolist() == [5, 3, 1]
        assert len(set(half.tolist())) == len(half)
    assert np.array_equal(half_samples(labels, 0)[0], half_samples(labels, 0)[0])


def test_the_best_backbone_comes_first_with_an_interval_of_its_standard_error() -> None:
    one, other = ranked(make_given("low", -3.0), make_given("high", -1.0))
    assert (one.name, other.name) == ("high", "low")
    score = one.scores["mean"]
    deviation = make_given("high", -1.0).features.std() / np.sqrt(200)
    assert (score.high - score.low) / 2 == pytest.approx(1.96 * deviation, rel=0.4)


def test_an_interval_ends_at_the_bounds_of_the_scorer() -> None:
    (only,) = ranked(make_given("top", 0.99))
    assert only.scores["mean"].high == 1


def test_differences_are_compared_in_the_same_half_samples() -> None:
    best, same = make_given("best", -1.0), make_given("same", -1.01)  # less in every half sample
    other = make_given("other", -1.01, noise=1.2)  # less on average, with noise of its own
    tied = {each.name: each.scores["mean"].tied for each in ranked(same, other, best)}
    assert tied == {"best": True, "same": False, "other": True}


def test_backbones_that_cannot_be_distinguished_are_named() -> None:
    (line,) = describe_ranking(ranked(make_given("a", -1.0), make_given("b", -1.01, noise=1.2)))
    assert line.startswith("mean: cannot distinguish a, b; prefer the one that costs least")


def test_a_clear_winner_is_named() -> None:
    assert describe_ranking(ranked(make_given("a", 0), make_given("b", -5))) == ["mean: a is best"]


def test_a_refused_backbone_is_ranked_last_with_the_reason() -> None:
    first, last = ranked(make_given("none", 0.0, noise=0), make_given("some", -5.0))
    assert (first.name, last.name) == ("some", "none")
    assert last.scores["mean"].value is None
    assert last.scores["mean"].refused == "all features are 0"
    assert describe_ranking([first, last]) == ["mean: only some has a score"]
    assert describe_ranking([last]) == ["mean: no score, all features are 0"]

"""Checks of scorers: finite, reproducible, and blind to what must not matter."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from visiongraft.errors import DataError, OptionError
from visiongraft.lookup.methods import find_scorer
from visiongraft.scorers import ScorerInput
from visiongraft.testing.report import Check, Checks, NotTried, expect, require, trying
from visiongraft.testing.trials import Trial

IMAGES, FEATURES, CLASSES, SOURCE_CLASSES = 60, 12, 4, 5
ROUNDING = 1e-9


class ScorerTrial(Trial):
    """A scorer under trial.

    Args:
        name: Name of the scorer, with options if it needs any.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.scorer = find_scorer(name)

    def score(self, given: ScorerInput, words: str) -> float:
        """Compute a score; what the scorer refuses is not tried."""
        with trying(words, "a finite number", see="scorers.Scorer.score"):
            try:
                score = self.scorer.score(given)
            except (OptionError, DataError) as error:
                raise NotTried(str(error)) from error
        low, high = self.scorer.scorer.bounds
        inside = low - ROUNDING <= score <= high + ROUNDING
        expect(inside, words, score, f"a score within its bounds, {low} to {high}")
        return score


def make_input(separation: float, images: int = IMAGES, features: int = FEATURES) -> ScorerInput:
    """Make features whose classes lie apart by multiples of their noise.

    Args:
        separation: 0 for features that do not depend on the class.
        images: Number of images N.
        features: Number of features D.
    """
    generator = np.random.Generator(np.random.PCG64(7))
    labels = np.arange(images) % CLASSES
    noise = generator.normal(size=(images, features))
    centers = generator.normal(size=(CLASSES, features))
    logits = generator.normal(size=(images, SOURCE_CLASSES))
    logits += separation * np.eye(CLASSES, SOURCE_CLASSES)[labels]
    chances = np.exp(logits)
    return ScorerInput(
        backbone="trial",
        features=noise + separation * centers[labels],
        labels=labels,
        source_probabilities=chances / chances.sum(1, keepdims=True),
        parameters=1000,
        provenance={"source": "trial", "accuracy": "0.5 on trial"},
    )


check = Checks(ScorerTrial.of)


@check("scorers.Scorer.score")
def scores_are_finite_numbers(trial: ScorerTrial) -> None:
    """The score is a finite number for ordinary data, few images, constant features and a single image of a class."""
    usual = make_input(1)
    lonely = usual.subset([0, *np.flatnonzero(usual.labels != 0)])
    for words, given in {
        "ordinary features": usual,
        "fewer images than features": make_input(1, images=10, features=40),
        "features that are all equal": replace(usual, features=np.ones((IMAGES, FEATURES))),
        "features that are all 0": replace(usual, features=np.zeros((IMAGES, FEATURES))),
        "a class with a single image": lonely,
        "images that occur twice": usual.subset([*range(IMAGES), *range(IMAGES)]),
    }.items():
        trial.score(given, f"to score {words}")


@check("scorers.Scorer.score")
def the_same_input_has_the_same_score(trial: ScorerTrial) -> None:
    """Scoring the same input again returns the same number, and the arrays stay as they were."""
    given = make_input(1)
    kept = [given.features.copy(), given.labels.copy()]
    words = "to score the same features twice"
    first, second = (trial.score(given, words) for _ in range(2))
    expect(first == second, words, f"{first} and {second}", "equal scores")
    same = all(map(np.array_equal, kept, [given.features, given.labels]))
    expect(same, words, "changed arrays", "arrays as they were")


@check("scorers.Scorer.score")
def the_order_of_images_does_not_matter(trial: ScorerTrial) -> None:
    """The same images in another order have the same score."""
    given = make_input(1)
    order = np.random.Generator(np.random.PCG64(0)).permutation(IMAGES)
    _expect_equal(trial, given, given.subset(order), "to score images in another order")


@check("scorers.Scorer.score")
def the_numbers_of_classes_do_not_matter(trial: ScorerTrial) -> None:
    """Classes with other ids have the same score."""
    given = make_input(1)
    turned = replace(given, labels=(given.labels + 1) % CLASSES)
    _expect_equal(trial, given, turned, "to score classes with other ids")


@check("scorers.Scorer")
def separated_classes_score_at_least_as_high(trial: ScorerTrial) -> None:
    """Features whose classes lie far apart score at least as high as noise."""
    score = partial(trial.score, words="to score features with and without separated classes")
    apart, noise = score(make_input(5)), score(make_input(0))
    words = "to score features of separated classes, and noise"
    expect(apart >= noise, words, f"{apart:.4g} and {noise:.4g}", "higher scores for the former")


def _expect_equal(trial: ScorerTrial, given: ScorerInput, other: ScorerInput, words: str) -> None:
    one, two = trial.score(given, words), trial.score(other, words)
    near = bool(np.isclose(one, two, rtol=1e-6, atol=1e-9))
    expect(near, words, f"{two} instead of {one}", "the same score")


SCORER_CHECKS: tuple[Check[Any], ...] = tuple(check)


def check_scorer(what: str) -> None:
    """Check everything that visiongraft requires of a scorer.

    Args:
        what: Name of an installed scorer, with or without options.

    Raises:
        CheckError: A check failed.
    """
    require(ScorerTrial.of(what), SCORER_CHECKS)

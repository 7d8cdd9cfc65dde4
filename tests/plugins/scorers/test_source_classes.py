"""LEEP and NCE against sums written out as loops, and against what must not matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from visiongraft.plugins.scorers.source_classes import LEEP, NCE


def with_source(given: Any, ids: Any, classes: int) -> Any:
    """Replace the source's probabilities by certain predictions of these classes."""
    return replace(given, source_probabilities=np.eye(classes)[ids])


def test_leep_is_the_sum_of_the_paper(make_scored: Any) -> None:
    given = make_scored()
    theta, y = given.source_probabilities, given.labels
    total = 0.0
    for i in range(len(y)):
        likelihood = 0.0
        for z in range(theta.shape[1]):
            joint = sum(theta[j, z] for j in range(len(y)) if y[j] == y[i])
            likelihood += joint / sum(theta[j, z] for j in range(len(y))) * theta[i, z]
        total += np.log(likelihood)
    assert LEEP().score(given) == pytest.approx(total / len(y))


def test_nce_is_the_conditional_entropy_of_the_label_given_the_source_class(
    make_scored: Any,
) -> None:
    given = make_scored()
    z, y = given.source_probabilities.argmax(1), given.labels
    total = 0.0
    for i in range(len(y)):
        among = [y[j] for j in range(len(y)) if z[j] == z[i]]
        total += np.log(among.count(y[i]) / len(among))
    assert NCE().score(given) == pytest.approx(total / len(y))


def test_certain_predictions_have_equal_leep_and_nce(make_scored: Any) -> None:
    given = make_scored()
    certain = with_source(given, np.arange(30) % 4, 4)
    assert LEEP().score(certain) == pytest.approx(NCE().score(certain))


def test_finer_source_classes_determine_the_label_but_not_the_other_way_round(
    make_scored: Any,
) -> None:
    given = make_scored(30, 5, classes=3)
    fine = with_source(given, np.arange(30) % 6, 6)
    coarse = with_source(replace(given, labels=np.arange(30) % 6), given.labels, 3)
    assert NCE().score(fine) == pytest.approx(0, abs=1e-12)
    assert NCE().score(coarse) == pytest.approx(-np.log(2))


@pytest.mark.parametrize("scorer", [LEEP(), NCE()])
def test_a_source_class_that_is_never_predicted_changes_nothing(
    scorer: Any, make_scored: Any
) -> None:
    given = make_scored()
    wider = np.pad(given.source_probabilities, ((0, 0), (1, 1)))
    other = replace(given, source_probabilities=wider)
    assert scorer.score(other) == pytest.approx(scorer.score(given))

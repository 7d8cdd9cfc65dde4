"""Which epoch a run keeps, and what a user may write to select it."""

from __future__ import annotations

import math

import pytest

from visiongraft.errors import OptionError
from visiongraft.training.selection.criteria import Condition, Selection, is_better, is_preferred

BEFORE = {"old": {"accuracy": 0.9, "loss": 1.0, "odd": math.nan}, "validation": {"accuracy": 0.3}}


def test_best_and_last_have_no_conditions() -> None:
    assert Selection.parse("best") == Selection()
    assert Selection.parse(" last ") == Selection(last=True)


def test_a_signed_number_is_relative_and_any_other_absolute() -> None:
    (low, high, plain) = Selection.parse(
        "best(old.accuracy >= -0.02, old.loss<=+1e-1, validation.accuracy >= .5)"
    ).conditions
    assert low == Condition("old", "accuracy", True, -0.02, True)
    assert high == Condition("old", "loss", False, 0.1, True)
    assert plain == Condition("validation", "accuracy", True, 0.5, False)
    assert [c.bound(BEFORE) for c in (low, high, plain)] == [0.88, 1.1, 0.5]


@pytest.mark.parametrize(
    "text",
    [
        *("", "first", "best()", "best(old.accuracy)", "best(accuracy >= 0.5)", "last(old.a >= 1)"),
        *("best(old.accuracy > 0.5)", "best(old.accuracy >= much)", "best(old.accuracy >= 0.5"),
        *(
            "best(confidence=0.9)",
            "best(old.accuracy >= 0.5, confidence=1)",
            "last(confidence=0.9)",
        ),
        *("best(old.accuracy >= 0.5, confidence=0.4)", "best(confidence=0.9, old.accuracy >= 0.5)"),
        *("best(old.accuracy >= 0.5,)", "best(old.accuracy >= - 0.5)", "best(0.5 <= old.accuracy)"),
        *(
            "lowest()",
            "lowest(old)",
            "highest(old.accuracy >= 0.5)",
            "lowest(old.a, old.b)",
            "lowest",
        ),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(OptionError, match="select=") as caught:
        Selection.parse(text)
    assert "\n" not in str(caught.value)


def test_another_metric_chooses_with_or_without_conditions() -> None:
    lowest = Selection.parse("lowest(new.entropy, new.diversity >= 0.8)")
    assert lowest.metric == ("new", "entropy") and not lowest.higher
    assert [c.metric for c in lowest.conditions] == ["diversity"]
    assert lowest.datasets == {"new"} and Selection.parse("best").datasets == set()
    results = {"new": {"entropy": 0.3}, "validation": {"accuracy": 0.9}}
    highest, best = Selection.parse("highest(new.entropy)"), Selection.parse("best")
    assert [s.value(results, "accuracy") for s in (lowest, highest, best)] == [0.3, 0.3, 0.9]
    assert [s.sign(higher=True) for s in (lowest, highest, best)] == [-1, 1, 1]
    assert [s.sign(higher=False) for s in (lowest, highest, best)] == [-1, 1, -1]
    sure = Selection.parse("lowest(new.entropy, old.accuracy >= 0.8, confidence=0.9)")
    assert sure.confidence == 0.9 and len(sure.conditions) == 1


def test_a_metric_to_choose_by_must_exist() -> None:
    selection = Selection.parse("lowest(old.entropy)")
    with pytest.raises(OptionError, match=r"old\.entropy: the task has no metric 'entropy'"):
        selection.check_metrics(BEFORE)
    with pytest.raises(OptionError, match="select names 'old'"):
        selection.check_names({"new": None})


def test_a_confidence_may_follow_the_conditions() -> None:
    selection = Selection.parse("best(old.accuracy >= -0.02, old.loss <= 2, confidence = 0.95)")
    assert (len(selection.conditions), selection.confidence) == (2, 0.95)
    assert selection.uncertain == {"old"}
    assert Selection.parse("best(old.accuracy >= -0.02)").uncertain == frozenset()


def test_with_a_margin_a_value_must_be_that_far_from_its_threshold() -> None:
    selection = Selection.parse("best(old.accuracy >= -0.02, old.loss <= 1.5)")
    margins = dict(zip(selection.conditions, (0.01, 0.2), strict=True))
    assert selection.shortfall({"old": {"accuracy": 0.89, "loss": 1.3}}, BEFORE, margins) == (0, 0)
    results = {"old": {"accuracy": 0.885, "loss": 1.4}}
    assert selection.shortfall(results, BEFORE, margins) == (2, pytest.approx(0.105))
    assert selection.unsatisfied(results, BEFORE, margins) == [
        "old.accuracy is 0.885, less than its margin of error of 0.01 above 0.88 (0.9 before training)",
        "old.loss is 1.4, less than its margin of error of 0.2 below 1.5",
    ]


def test_a_value_that_misses_its_threshold_by_rounding_only_satisfies_it() -> None:
    (condition,) = Selection.parse("best(old.accuracy >= -0.02)").conditions
    results = {"old": {"accuracy": 0.9 - 0.02 - 1e-12}}
    assert condition.shortfall(results, BEFORE) == 0
    assert condition.shortfall({"old": {"accuracy": 0.87}}, BEFORE) == pytest.approx(0.01)


@pytest.mark.parametrize("results", [{}, {"accuracy": math.nan}])
def test_a_value_that_is_missing_or_no_number_satisfies_nothing(results: dict[str, float]) -> None:
    selection = Selection.parse("best(old.accuracy >= 0)")
    assert selection.shortfall({"old": results}, BEFORE) == (1, math.inf)


def test_an_unsatisfied_condition_is_described_with_all_its_values() -> None:
    selection = Selection.parse("best(old.accuracy >= -0.02, old.loss <= 2)")
    lines = selection.unsatisfied({"old": {"accuracy": 0.5, "loss": 2.5}}, BEFORE)
    assert lines == [
        "old.accuracy is 0.5, below 0.88 (0.9 before training)",
        "old.loss is 2.5, above 2",
    ]


def test_a_dataset_that_is_not_evaluated_is_refused_with_a_suggestion() -> None:
    selection = Selection.parse("best(anchor.accuracy >= 0.5)")
    with pytest.raises(OptionError, match=r"'anchor', which evaluate_on does not.*'anchors'"):
        selection.check_names({"anchors": None})
    Selection.parse("best(validation.accuracy >= 0.5)").check_names({})


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("old.acuracy >= 0.5", "no metric 'acuracy'; did you mean 'accuracy'"),
        ("old.odd >= -0.1", r"old\.odd is nan before training"),
    ],
)
def test_a_metric_that_cannot_be_compared_is_refused(condition: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Selection.parse(f"best({condition})").check_metrics(BEFORE)


def test_an_epoch_that_satisfies_more_or_misses_less_is_preferred_to_a_better_one() -> None:
    good, near, far = (0, 0.0, 0.1), (1, 0.1, 0.8), (1, 0.2, 0.9)
    assert is_preferred(good, near) and is_preferred(near, far)
    assert not is_preferred(far, good) and not is_preferred(good, good)
    assert is_preferred((0, 0.0, 0.2), good)


def test_a_number_is_better_than_none() -> None:
    assert is_better(0.0, math.nan)
    assert not is_better(math.nan, 0.0)
    assert not is_better(math.nan, math.nan)

"""Margins of error: they cover what is true of all images, and need enough of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from visiongraft.errors import OptionError
from visiongraft.training.measuring.margins import (
    GROUPS,
    margins_of,
    measure_without_groups,
    rare_events,
    refuse_impossible,
    student_quantile,
)
from visiongraft.training.selection.criteria import Selection

BUDGET = Selection.parse("best(old.accuracy >= -0.02, confidence=0.95)")
(CONDITION,) = BUDGET.conditions


class Mean:
    """A task whose metric is the mean of its targets, or their spread, which is no mean."""

    def build_metrics(self) -> Mean:
        fresh = Mean()
        fresh.values = []
        return fresh

    def collate(self, targets: list[float]) -> list[float]:
        return targets

    def update(self, arrays: dict[str, Any], targets: list[float]) -> None:
        assert len(arrays["rows"]) == len(targets)
        self.values: list[float] = [*self.values, *targets]

    def compute(self) -> dict[str, float]:
        return {"accuracy": float(np.mean(self.values))}


class Targets:
    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, dtype=float)

    def __len__(self) -> int:
        return len(self.values)

    def target(self, position: int) -> float:
        return float(self.values[position])


def groups_of(values: Any, batch: int = 300) -> dict[str, Any]:
    """Measure values without each group, as those of the set ``old``."""
    samples: Any = Targets(values)
    positions = [
        list(range(i, min(i + batch, len(samples)))) for i in range(0, len(samples), batch)
    ]
    results = (({"rows": np.arange(len(p))}, p) for p in positions)
    return {"old": measure_without_groups(Mean(), samples, results)}  # type: ignore[arg-type]


def margin(after: Any, before: Any, choices: int = 1, selection: Selection = BUDGET) -> float:
    found = margins_of(selection, groups_of(after), groups_of(before), {"old": len(after)}, choices)
    (value,) = found.values()
    return value


def test_the_jackknife_finds_the_standard_error_of_a_mean() -> None:
    values = np.random.default_rng(0).random(2000)
    selection = Selection.parse("best(old.accuracy >= 0.5, confidence=0.95)")
    found = margin(values, values, selection=selection) - rare_events(0.05, 2000)
    assert found / student_quantile(0.95, GROUPS - 1) == pytest.approx(
        1 / math.sqrt(12 * 2000), rel=0.4
    )


def test_what_is_alike_before_and_after_does_not_widen_the_margin_of_a_change() -> None:
    before = np.random.default_rng(0).integers(0, 2, 400)
    assert margin(before, before) == pytest.approx(rare_events(0.05, 400))
    after = before.copy()
    after[:20] = 0
    independent = 1.73 * math.sqrt(2 * 0.25 / 400)
    assert rare_events(0.05, 400) < margin(after, before) < independent


def test_the_choice_among_epochs_widens_the_margin() -> None:
    before = np.ones(400)
    after = before.copy()
    after[::50] = 0
    assert margin(after, before, choices=10) > margin(after, before, choices=1)


@pytest.mark.parametrize(
    "drop", [0.01, *(pytest.param(drop, marks=pytest.mark.exhaustive) for drop in (0.002, 0.05))]
)
def test_the_bound_covers_the_true_change_as_often_as_it_says(drop: float) -> None:
    """In a hundred sets of images, of which some are no longer right and a third as many are newly right."""
    random, covered = np.random.default_rng(1), 0
    for _ in range(100):
        before = random.random(300) < 0.9
        chance = random.random(300)
        after = np.where(before, chance >= 1.5 * drop / 0.9, chance < 0.5 * drop / 0.1)
        covered += after.mean() - before.mean() - margin(after, before) <= -drop
    assert covered >= 95


def test_sets_smaller_than_the_number_of_groups_are_divided_into_single_images() -> None:
    assert len(groups_of([1.0, 0.0, 1.0])["old"]["accuracy"]) == 3
    assert margin([1.0], [1.0]) == math.inf


@pytest.mark.parametrize(("probability", "freedom", "value"), [
    (0.95, 19, 1.729), (0.995, 19, 2.861), (0.95, 8, 1.860), (0.999, 19, 3.579),
])  # fmt: skip
def test_quantiles_are_those_of_student(probability: float, freedom: int, value: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(value, rel=0.01)


def test_a_budget_that_so_few_images_cannot_show_is_refused() -> None:
    before = {"old": {"accuracy": 0.9}}
    with pytest.raises(OptionError, match=r"old.accuracy: 100 images cannot show .* at least 265"):
        refuse_impossible(BUDGET, before, {"old": 100}, 10)
    refuse_impossible(BUDGET, before, {"old": 265}, 10)
    refuse_impossible(Selection.parse("best(old.accuracy >= -0.02)"), before, {"old": 1}, 10)


def test_an_improvement_may_be_asked_for_and_metrics_that_are_no_fractions_are_not_counted() -> (
    None
):
    gain = Selection.parse("best(old.accuracy >= +0.1, confidence=0.95)")
    refuse_impossible(gain, {"old": {"accuracy": 0.5}}, {"old": 10}, 10)
    refuse_impossible(BUDGET, {"old": {"accuracy": 23.0}}, {"old": 10}, 10)
    before = np.linspace(3, 5, 100)
    assert margin(before, before) == 0

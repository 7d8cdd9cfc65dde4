"""The summary of a run: best and last epoch, and how far the choice among epochs may flatter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.testing.specimen import Specimen
from visiongraft.training.selection.outcome import Outcome, optimism_of_best


@dataclass(frozen=True)
class Scored(Specimen):
    """A task whose headline is a fraction."""

    headline: ClassVar[str] = "score"
    better: ClassVar[Any] = "higher"
    bounds: ClassVar[Any] = None


@dataclass(frozen=True)
class Measured(Scored):
    """A task whose headline is an error of any size."""

    better: ClassVar[Any] = "lower"


def history(*values: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for epoch, value in enumerate(values):
        best = value > max((r["validation"]["score"] for r in found), default=-1)
        found.append({"epoch": epoch, "validation": {"score": value}, "best": best})
    return found


def test_best_and_last_epoch_are_named_from_one() -> None:
    outcome = Outcome.of(history(0.5, 0.75, 0.625), Scored(), 40)
    assert str(outcome) == "best score 0.7500 at epoch 2, last 0.6250 at epoch 3"


def test_a_best_epoch_that_is_the_last_is_named_once() -> None:
    assert str(Outcome.of(history(0.5, 0.75), Scored(), 40)) == "best score 0.7500 at epoch 2"


def test_a_last_epoch_that_was_requested_is_called_so_and_flatters_nobody() -> None:
    records = [{**record, "best": True} for record in history(0.75, 0.5)]
    outcome = Outcome.of(records, Scored(), 10, "last")
    assert str(outcome) == "last score 0.5000 at epoch 2"
    assert outcome.optimism is None and not outcome.caution


def test_few_validation_images_make_a_caution_in_one_line() -> None:
    caution = Outcome.of(history(*[0.8] * 10), Scored(), 40).caution
    assert caution.startswith(
        "the best of 10 epochs on 40 validation images may flatter by up to 0.1"
    )
    assert "\n" not in caution
    assert "validation='nested'" in caution
    few = Outcome.of(history(*[0.8] * 10), Scored(), 3).caution  # which cannot be divided
    assert few and "nested" not in few


@pytest.mark.parametrize(
    ("values", "images"), [([0.8] * 10, 100_000), ([0.8], 10)], ids=["many images", "one epoch"]
)
def test_what_hardly_matters_is_not_mentioned(values: list[float], images: int) -> None:
    assert not Outcome.of(history(*values), Scored(), images).caution


def test_of_a_metric_that_is_no_fraction_nothing_is_claimed() -> None:
    assert Outcome.of(history(0.8, 0.9), Measured(), 10).optimism is None


@given(st.floats(0, 1), st.integers(1, 1000), st.integers(1, 100))
def test_more_images_and_fewer_epochs_flatter_less(value: float, images: int, epochs: int) -> None:
    found = optimism_of_best(value, images, epochs)
    assert 0 <= optimism_of_best(value, 4 * images, epochs) <= found
    assert found <= optimism_of_best(value, images, epochs + 1)


def test_the_estimate_bounds_what_independent_epochs_gain_by_chance() -> None:
    random = np.random.default_rng(0)
    measured = random.binomial(150, 0.85, size=(4000, 10)) / 150
    gained = float((measured.max(axis=1) - 0.85).mean())
    assert 0.5 * optimism_of_best(0.85, 150, 10) < gained < optimism_of_best(0.85, 150, 10)

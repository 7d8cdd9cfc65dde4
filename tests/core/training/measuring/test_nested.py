"""Nested validation: folds, what they measure, and the estimate that no choice flatters."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import visiongraft
from visiongraft.data.images import DatasetSamples
from visiongraft.errors import OptionError
from visiongraft.training.measuring.nested import folds, measure_folds, nested_estimate


def records(*offers: Any) -> list[dict[str, Any]]:
    return [{"folds": [offer]} for offer in offers]


# ---- the estimate ----


@given(st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=6))
def test_epochs_that_all_choose_alike_are_measured_as_they_are(epochs: list[list[float]]) -> None:
    """If every part of the images prefers the last epoch, the estimate is that epoch's."""
    history = records(*([(float(n), value) for value in row] for n, row in enumerate(epochs)))
    assert nested_estimate(history, "higher") == pytest.approx(np.mean(epochs[-1]))


def test_luck_in_the_choice_is_not_rewarded() -> None:
    """Epochs that differ by chance alone: the best looks better than it is, the nested estimate does not."""
    random = np.random.default_rng(0)
    best, nested = [], []
    for _ in range(300):
        right = random.random((10, 50)) < 0.7  # ten epochs on fifty images
        fold = np.arange(50) % 5
        offers = [
            [(row[fold != k].mean(), row[fold == k].mean()) for k in range(5)] for row in right
        ]
        best.append(right.mean(axis=1).max())
        nested.append(nested_estimate(records(*offers), "higher"))
    assert np.mean(best) > 0.78
    assert np.mean(nested) == pytest.approx(0.7, abs=0.015)


def test_a_lower_headline_may_be_the_better_one() -> None:
    history = records([(2.0, 2.5)], [(1.0, 1.5)])
    assert nested_estimate(history, "lower") == 1.5
    assert nested_estimate(history, "higher") == 2.5


def test_a_fold_that_lacks_the_metric_is_left_out() -> None:
    assert nested_estimate(records([(0.5, math.nan), (0.5, 0.25)]), "higher") == 0.25
    assert nested_estimate(records([(0.5, math.nan)]), "higher") is None
    assert nested_estimate([{"epoch": 0}], "higher") is None


# ---- folds ----


class Grouped(DatasetSamples):
    """Samples of which three each are of one subject."""

    def subject(self, index: int) -> str:
        return f"person {index // 3}"


def test_folds_are_of_nearly_one_size_and_the_same_each_time(toy_data: Any) -> None:
    samples = DatasetSamples.of(toy_data(23))
    sizes = np.bincount(folds(samples))
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 1
    assert (folds(samples) == folds(samples)).all()


def test_the_samples_of_a_subject_are_in_one_fold(toy_data: Any) -> None:
    found = folds(Grouped.of(toy_data(30))).reshape(10, 3)
    assert (found == found[:, :1]).all()
    assert len(set(found[:, 0])) == 5


def test_each_fold_is_measured_alone_and_left_out_of_the_others(toy_data: Any, Toy: Any) -> None:
    samples, task = DatasetSamples.of(toy_data(20)), Toy()
    right = np.zeros(20, dtype=int)
    fold_of = folds(samples)
    targets = np.array([samples.target(i) for i in range(20)])
    right[:] = np.where(fold_of == 2, targets, 1 - targets)  # only one fold is predicted right
    decoded = {"label": right}
    batches = [
        ({n: a[i : i + 6] for n, a in decoded.items()}, range(i, min(i + 6, 20)))
        for i in (0, 6, 12, 18)
    ]
    found = measure_folds(task, samples, batches)
    assert [alone for _, alone in found] == [0, 0, 1, 0, 0]
    assert [without for without, _ in found] == [0.25, 0.25, 0, 0.25, 0.25]


# ---- in a run ----


def test_a_run_states_the_estimate_and_trains_as_without_it(
    fit_toy: Any, toy_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, settings = toy_data(60), {"epochs": 3, "callbacks": ("progress",)}
    model = fit_toy(data, validation="nested", out=tmp_path / "nested", **settings)
    plain = fit_toy(data, out=tmp_path / "plain", **settings)
    history = [
        json.loads(line) for line in (tmp_path / "nested/metrics.jsonl").read_text().splitlines()
    ]
    (value,) = model.facts["nested validation"].values()
    assert value == nested_estimate(history, "higher")
    assert f"nested validation: {model.task.headline} {value:.4f}" in capsys.readouterr().err
    assert "nested validation" not in plain.facts
    kept = [{n: v for n, v in record.items() if n != "folds"} for record in history]
    lines = (tmp_path / "plain/metrics.jsonl").read_text().splitlines()
    assert kept == [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"select": "last"}, "omit select='last'"),
        ({"validation": "twice"}, "validation='twice' is not a fraction in .0, 1., nor 'nested'"),
    ],
)
def test_what_it_does_not_fit_is_refused_in_one_line(
    fit_toy: Any, toy_data: Any, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        fit_toy(toy_data(60), out=tmp_path / "run", **{"validation": "nested", **settings})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_too_few_validation_images_are_refused(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match="at least 4 validation images, not 3"):
        fit_toy(toy_data(10), validation="nested")


def test_the_command_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert visiongraft.cli.main(["fit", "nowhere", "--validation", "half"]) == 2
    assert (
        "--validation half: expected a fraction, such as 0.2, or nested" in capsys.readouterr().err
    )

"""Models are compared on the same images, with paired intervals that hold."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

import visiongraft
from visiongraft.comparing.models import _around, _has_interval, mcnemar
from visiongraft.errors import OptionError
from visiongraft.training.measuring.own_metrics import OwnMetrics


@pytest.fixture(scope="module")
def runs(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run that learned the task, and one that did not."""
    folder = tmp_path_factory.mktemp("runs")
    for name, rate in (("good", 0.02), ("poor", 1e-6)):
        schedule = f"full(learning_rate={rate})"
        fit_toy(toy_data(60), task="toy", out=folder / name, schedule=schedule, epochs=6)
    return [folder / "poor", folder / "good"]


def test_a_better_model_is_told_from_a_poor_one(runs: list[Path], toy_data: Any) -> None:
    found = visiongraft.compare(runs, data=toy_data(60, seed=3))
    poor, good = found.models
    (against,) = found.against
    assert found.images == 60
    assert poor.metrics["share_right"] < good.metrics["share_right"]
    assert against.difference.low > 0
    assert f"{runs[1]} against {runs[0]}: share_right +" in str(found)
    assert ": better" in str(found)


def test_numbers_of_images_add_up_to_the_difference(runs: list[Path], toy_data: Any) -> None:
    (against,) = visiongraft.compare(runs, data=toy_data(60, seed=3)).against
    assert against.right_alone is not None
    first, other = against.right_alone
    assert (other - first) / 60 == pytest.approx(against.difference.value)
    assert against.differing == first + other
    assert len(against.images) == min(10, against.differing)
    assert {abs(one - two) for _, one, two in against.images} == {1.0}


def test_counts_and_what_is_measured_over_pairs_have_no_interval() -> None:
    images, pairs = (
        SimpleNamespace(metrics_over_pairs=over, targets_in_common=over) for over in (False, True)
    )
    own = OwnMetrics({"mine": None})  # type: ignore[dict-item]
    own.results.add("mine")  # as if it were computed
    fractions, counts = [0.5, 0.25, 1.0], [180.0, 180.0]
    assert _has_interval(images, own, "f1", fractions)  # type: ignore[arg-type]
    assert not _has_interval(images, own, "images", counts)  # type: ignore[arg-type]
    assert not _has_interval(pairs, own, "roc_auc", fractions)  # type: ignore[arg-type]
    assert _has_interval(pairs, own, "mine", fractions)  # type: ignore[arg-type]
    assert not _has_interval(images, own, "mine", [0.5, math.nan])  # type: ignore[arg-type]


def test_a_model_cannot_be_distinguished_from_itself(runs: list[Path], toy_data: Any) -> None:
    found = visiongraft.compare([runs[1], runs[1]], data=toy_data(60, seed=3))
    (against,) = found.against
    assert against.difference.value == 0
    assert against.difference.low == -against.difference.high == pytest.approx(math.log(0.025) / 60)
    assert (against.right_alone, against.p_value, against.differing) == ((0, 0), 1.0, 0)
    assert found.settings == {}
    assert "cannot be distinguished" in str(found)


def test_a_planted_fault_in_one_model_is_seen(runs: list[Path], toy_data: Any) -> None:
    """Weights that changed since they were saved show in the metrics of that model alone."""
    good = visiongraft.load(runs[1])
    broken = deepcopy(good)
    with torch.no_grad():
        broken.network.head.linear.weight.neg_()
    found = visiongraft.compare([good, broken], data=toy_data(60, seed=3))
    assert found.against[0].difference.high < 0
    assert ": worse" in str(found)


def test_settings_that_differ_are_listed(runs: list[Path], toy_data: Any) -> None:
    found = visiongraft.compare(runs, data=toy_data(20))
    assert found.settings == {"schedule.options.learning_rate": ("1e-06", "0.02")}


def test_images_that_were_trained_on_are_counted(
    runs: list[Path], toy_data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found = visiongraft.compare(runs, data=toy_data(60))
    assert any("images were in training" in line for line in found.warnings)


def test_a_comparison_is_json(runs: list[Path], toy_data: Any) -> None:
    values = json.loads(json.dumps(visiongraft.compare(runs, data=toy_data(20)).to_json()))
    assert values["against"][0]["name"] == str(runs[1])


def test_one_model_is_refused(runs: list[Path]) -> None:
    for models in (runs[:1], "runs"):
        with pytest.raises(OptionError, match="compare takes at least two models"):
            visiongraft.compare(models)  # type: ignore[arg-type]


def test_models_without_images_to_measure_on_are_refused(runs: list[Path]) -> None:
    with pytest.raises(OptionError, match="compare needs labeled images: pass data=PATH"):
        visiongraft.compare(runs)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemars_test_is_the_binomial_test(first: int, other: int) -> None:
    expected = binomtest(first, first + other).pvalue if first + other else 1.0
    assert mcnemar(first, other) == pytest.approx(expected)


def test_intervals_of_differences_contain_the_truth_in_about_95_of_100_draws() -> None:
    """Two models of accuracy 0.7 that agree on most images."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        first = random.random(200) < 0.7
        changed = random.random(200) < 0.2
        other = np.where(changed, random.random(200) < 0.7, first)
        groups = np.arange(200) % 20
        without = [[m[groups != g].mean() for g in range(20)] for m in (first, other)]
        value = float(other.mean() - first.mean())
        found = _around(value, np.subtract(without[1], without[0]), 200, bounded=True)
        inside += found.low <= 0 <= found.high
    assert 0.92 <= inside / 400 <= 0.98

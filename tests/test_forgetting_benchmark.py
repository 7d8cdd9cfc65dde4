"""The benchmark of forgetting budgets compares ways of choosing on images that chose nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmark_scripts import load_script


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("forgetting", monkeypatch)


@pytest.mark.parametrize("split", ["classes", "domain"])
def test_anchors_test_and_training_images_are_others(script: Any, split: str) -> None:
    parts = script.divide(split, seed=3)
    old = [
        image.tobytes()
        for part in ("first", "anchors", "test")
        for image, _ in getattr(parts, part)
    ]
    assert len(old) == 900
    assert len(set(old)) > 890  # some digits are equal by chance
    labels = {label for _, label in parts.new}
    assert labels == (set(range(5, 10)) if split == "classes" else set(range(10)))


def test_the_best_point_within_the_budget_is_chosen(script: Any) -> None:
    points = [{"anchors": a, "new": n} for a, n in ((-0.2, 0.9), (-0.04, 0.7), (-0.01, 0.5))]
    assert script.best(points)["new"] == 0.9
    assert script.best(points, 0.05)["new"] == 0.7
    assert script.best(points, 0.001)["new"] == 0.5  # nothing is within it: what forgets least


def test_the_table_counts_in_how_many_seeds_the_budget_holds(script: Any) -> None:
    found = {
        script.Cell("domain", seed, 0.05): {
            "before": 0.5, "satisfied": True, "way": {"test": change, "new": 0.75}
        }
        for seed, change in enumerate((-0.05, -0.06))
    }  # fmt: skip
    (row,) = script.table(found).splitlines()[2:]
    assert "| 1 of 2 | -0.055 | -0.060 | 0.750 ± 0.000 | 0.500 |" in row

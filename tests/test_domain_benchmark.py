"""The benchmark of domain adaptation: its shifted images, and its table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.benchmark_scripts import load_script


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("domain_adaptation", monkeypatch)


def test_the_shift_changes_pixels_but_no_labels_and_is_the_same_each_time(benchmark: Any) -> None:
    items = [(np.full((4, 4, 3), 100, np.uint8), label) for label in (0, 1)]
    one, other = benchmark.shifted(items), benchmark.shifted(items)
    assert [label for _, label in one] == [0, 1]
    assert np.array_equal(one[0][0], other[0][0]) and not np.array_equal(one[0][0], one[1][0])
    assert one[0][0].dtype == np.uint8


def test_the_table_has_a_row_for_each_method(benchmark: Any) -> None:
    found = {
        benchmark.Cell("digits", "simple_cnn", method, seed): {"accuracy": accuracy}
        for method, accuracies in (("source", (0.3, 0.5)), ("mcc", (0.6,)))
        for seed, accuracy in enumerate(accuracies)
    }
    lines = benchmark.table(found).splitlines()
    assert "digits, simple_cnn" in lines[0]
    assert lines[1].split() == ["source", "40.0", "±", "10.0"] and lines[2].split() == [
        "mcc",
        "60.0",
    ]

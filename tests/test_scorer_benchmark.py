"""The benchmark of scorers on toy data: its cells, its results and its correlations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.benchmark_scripts import load_script


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("scorers", monkeypatch)


def test_a_score_that_orders_as_accuracies_do_has_the_correlation_1(
    benchmark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        benchmark.Cell("t", f"s{i}", seed): {
            "accuracy": 0.1 * i + 0.01 * seed,
            "scores": {"good": i, "bad": -i, "blind": 1.0, "headless": None},
        }
        for i in range(4)
        for seed in (0, 1)
    }
    correlations = benchmark.correlations(found)
    assert correlations["good"]["t"] == pytest.approx(1)
    assert correlations["bad"]["t"] == pytest.approx(-1)
    assert correlations["blind"]["t"] == 0
    assert "headless" not in correlations
    benchmark.print_table(correlations)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["scorer", "good", "blind", "bad"]


@pytest.mark.slow
def test_sources_are_trained_once_and_cells_are_kept(benchmark: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("source", "target"):
        for split, count in (("train", 6), ("val", 2)):
            for label in ("ant", "bee"):
                folder = tmp_path / name / split / label
                folder.mkdir(parents=True)
                for i in range(count):
                    pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{i}.png")
    words = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--size", "16"]
    words += ["--targets", "target", "--sources", "source-permuted", "random3", "target"]
    words += [
        "--epochs",
        "1",
        "--source-epochs",
        "1",
        "--images",
        "4",
        "--scorers",
        "logme",
        "leep",
    ]
    benchmark.main(words)
    kept = (tmp_path / "out" / "cells.jsonl").read_text()
    benchmark.main(words)
    assert (tmp_path / "out" / "cells.jsonl").read_text() == kept
    found = benchmark.read_cells(tmp_path / "out" / "cells.jsonl", benchmark.Cell)
    assert {cell.source for cell in found} == {"source-permuted", "random3"}
    for cell, each in found.items():
        assert (each["scores"]["leep"] is None) == (cell.source == "random3")
        assert 0 <= each["accuracy"] <= 1

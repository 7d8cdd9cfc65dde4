"""The benchmark of defaults compares candidates on the same images, and trains every cell once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmark_scripts import load_script


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("defaults", monkeypatch)


def results(accuracy: float) -> dict[str, float]:
    return {"accuracy": accuracy, "calibration_error": 0.1}


def test_candidates_are_compared_with_the_first_one(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = {"chosen": 0.8, "probe only": 0.7}
    monkeypatch.setattr(script, "train", lambda cell, sets: results(right[cell.candidate]))
    words = ["--sets", str(tmp_path), "--results", str(tmp_path / "all.jsonl"), "--images", "60"]
    words += ["--seeds", "0", "--candidates", *right]
    script.main(words)
    out = capsys.readouterr().out
    names = " | ".join(script.GROUPS["tuning"])
    assert f"| images | candidate: accuracy, ECE | {names} |" in out
    assert "| 60 | probe only | 70.0, 10.0 |" in out
    *_, line = out.splitlines()
    assert line.split()[:4] == ["probe", "only", "6", "-10.00"]


def test_a_file_of_results_keeps_trainings_at_other_sizes_apart(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[int] = []

    def train(cell: Any, sets: Path) -> dict[str, float]:
        trained.append(cell.size)
        return results(cell.size / 1000)

    monkeypatch.setattr(script, "train", train)
    words = ["--sets", str(tmp_path), "--results", str(tmp_path / "all.jsonl"), "--limit", "1"]
    for size in ("96", "224", "96"):
        script.main(
            [*words, "--size", size, "--images", "60", "--seeds", "0", "--candidates", "chosen"]
        )
    assert trained == [96, 224, 96]  # a second cell at 96 pixels
    assert "22.4" not in capsys.readouterr().out.splitlines()[-1]

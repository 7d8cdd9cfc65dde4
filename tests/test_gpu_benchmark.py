"""The benchmark for GPUs, in small on the CPU: its parts, its table and its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark_scripts import load_script

SMALL = ["--device", "cpu", "--quick", "--backbone", "simple_cnn"]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("gpu", monkeypatch)


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", ["training", "cache", "files"])
def test_every_part_measures_something(benchmark: Any, tmp_path: Path, part: str) -> None:
    out = tmp_path / "gpu.json"
    assert benchmark.main([*SMALL, "--parts", part, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["results"]
    assert {row["part"] for row in rows} == {part}
    assert "failed" not in {row["what"] for row in rows}, rows
    assert any(row["unit"] == "images/s" and row["value"] for row in rows)


def test_a_part_that_fails_is_a_result_and_the_others_are_measured(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    def works(*_: Any) -> Any:
        yield benchmark.Row("cache", "ratio", 2.0, "times")

    monkeypatch.setattr(benchmark, "training", broken)
    monkeypatch.setattr(benchmark, "cache", works)
    out = tmp_path / "gpu.json"
    benchmark.main([*SMALL, "--parts", "training", "cache", "--out", str(out)])
    rows = json.loads(out.read_text())["results"]
    assert rows[0]["detail"] == "RuntimeError: out of memory" and rows[0]["value"] is None
    assert rows[2]["value"] == 2.0


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_without_a_gpu_it_says_so(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main([]) == 2
    assert "finds no GPU" in capsys.readouterr().err

"""The benchmark of translation on toy data and random weights: its cells and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from tests.benchmark_scripts import load_script
from visiongraft.plugins.translation.example import write_example


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("translation", monkeypatch)


@pytest.mark.exhaustive
def test_encoders_are_trained_and_compared_in_both_directions(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, count in (("train", 8), ("val", 4)):
        write_example(tmp_path / "data" / split, count, seed=count)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "weights.pth")
    given = ["--data", tmp_path / "data", "--weights", tmp_path / "weights.pth"]
    given += ["--results", tmp_path / "cells.jsonl", "--epochs", 1, "--side", 32, "--seeds", 1]
    benchmark.main([str(value) for value in (*given, "--channels", 16)])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + 6
    assert len((tmp_path / "cells.jsonl").read_text().split()) > 4
    benchmark.main([str(value) for value in (*given, "--limit", 0)])
    assert capsys.readouterr().out.splitlines()[-1] == table[-1]


def test_inputs_are_measured_as_if_they_were_results(benchmark: Any, tmp_path: Path) -> None:
    train, validation = benchmark.load_pairs(str(write_example(tmp_path / "data", 10, seed=0)), 16)
    assert (len(train), len(validation)) == (8, 2)
    assert train[0][0].shape == (16, 16, 3)
    same = [(image, image) for image, _ in validation]
    assert benchmark.inputs_alone("photograph to outline", same)["ssim"] == pytest.approx(1.0)
    assert benchmark.inputs_alone("outline to photograph", validation)["ssim"] < 0.9

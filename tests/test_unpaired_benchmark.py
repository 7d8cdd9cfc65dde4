"""The benchmark of translation without pairs on toy data and random weights: its cells and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from tests.benchmark_scripts import load_script
from visiongraft.plugins.translation.example import write_example


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("unpaired", monkeypatch)


@pytest.mark.exhaustive
def test_encoders_are_trained_and_compared(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, count in (("train", 8), ("val", 4)):
        write_example(tmp_path / "data" / split, count, seed=count)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "weights.pth")
    given = ["--data", tmp_path / "data", "--weights", tmp_path / "weights.pth"]
    given += ["--results", tmp_path / "cells.jsonl", "--epochs", 1, "--side", 32, "--seeds", 1]
    benchmark.main([str(value) for value in (*given, "--channels", 16)])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + 4


def test_images_that_are_their_targets_have_no_distance(benchmark: Any) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (20, 24, 3)).astype(np.uint8) for _ in range(3)]
    same, other = (benchmark.measure(images, wanted, 32) for wanted in (images, images[::-1]))
    assert same["fid"] == pytest.approx(0, abs=1e-6)
    assert same["psnr"] == 100 > other["psnr"]


def test_haze_brings_all_colors_nearer_to_one(benchmark: Any) -> None:
    black, white = benchmark.hazed([np.full((2, 2, 3), value, np.uint8) for value in (0, 255)])
    assert (white - black == 140).all()
    assert black[0, 0].tolist() == [98, 63, 29]

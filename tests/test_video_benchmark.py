"""The benchmark of video classification on toy clips: its cells and its table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.benchmark_scripts import load_script


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("video", monkeypatch)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Folders of frames in two classes, with lists as those of UCF101."""
    random = np.random.default_rng(0)
    (tmp_path / "classInd.txt").write_text("1 Dark\n2 Light\n")
    for split, count in (("train", 4), ("test", 2)):
        lines = []
        for number, name in ((1, "Dark"), (2, "Light")):
            for i in range(count):
                clip = tmp_path / split / name / f"v_{name}_g0{i}_c01"
                clip.mkdir(parents=True)
                for frame in range(3):
                    values = random.integers(0, 100, (30, 40, 3)) + 150 * (number - 1)
                    Image.fromarray(values.astype(np.uint8)).save(clip / f"{frame}.png")
                lines.append(f"{name}/{clip.name} {number}")
        (tmp_path / f"{split}list01.txt").write_text("\n".join(lines))
    return tmp_path


def test_frames_are_decoded_once_and_resized(benchmark: Any, videos: Path) -> None:
    train, test = benchmark.load_clips(str(videos), 2, 15)
    assert (len(train), len(test)) == (8, 4)
    assert train[0][0].shape == (2, 15, 20, 3)
    assert {label for _, label in train} == {"Dark", "Light"}
    assert benchmark.load_clips(str(videos), 2, 15)[0] is train


def test_a_shift_of_frozen_features_is_left_out(benchmark: Any) -> None:
    given = argparse.Namespace(seeds=2, side=96, probe_side=224)
    cells = benchmark.cells_of(given)
    assert len(set(cells)) == len(cells) == 2 * (2 * 2 + 3 * 2)
    assert {cell.side for cell in cells if cell.training == "probe"} == {224}
    assert not any("TSM" in cell.joined for cell in cells if cell.training == "probe")


@pytest.mark.exhaustive
def test_cells_are_trained_and_listed(
    benchmark: Any, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", videos, "--results", tmp_path / "cells.jsonl", "--epochs", 1, "--seeds", 1]
    given += ["--side", 32, "--probe-side", 32, "--frames", 2, "--probe-epochs", 1]
    benchmark.main([str(value) for value in given])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + 5
    assert all(line.endswith("| 1/1 |") for line in table[2:])

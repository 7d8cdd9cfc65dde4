"""The benchmark of transfer losses on toy data: its cells, its results and its table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.benchmark_scripts import load_script


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("transfer_losses", monkeypatch)


@pytest.mark.slow
def test_finished_cells_are_kept_and_make_the_table(
    benchmark: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for label in ("ant", "bee"):
            folder = tmp_path / "tiny" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    words = ["--data", str(tmp_path), "--results", str(tmp_path / "results.jsonl"), "--size", "16"]
    words += ["--sets", "tiny", "--backbones", "simple_cnn", "--pretrained", "none"]
    words += ["--methods", "vanilla", "bss", "--percents", "50", "--epochs", "1"]
    benchmark.main([*words, "--seeds", "0", "--limit", "1"])
    with open(tmp_path / "results.jsonl", "a") as file:
        file.write('\n{"cell": {"data"')  # as a kill leaves it
    benchmark.main([*words, "--seeds", "0", "1"])
    found = load_script("cells", monkeypatch).read_cells(tmp_path / "results.jsonl", benchmark.Cell)
    assert {(c.method, c.seed) for c in found} == {
        (m, s) for m in ("vanilla", "bss") for s in (0, 1)
    }
    before = (tmp_path / "results.jsonl").read_text()
    benchmark.main([*words, "--seeds", "0", "1"])
    assert (tmp_path / "results.jsonl").read_text() == before
    table = capsys.readouterr().out
    assert "| tiny, simple_cnn | 50 % | gain |" in table
    assert re.search(r"^\| `bss` \| \S+ ± \S+ \| \S+ ± \S+ \|$", table, re.MULTILINE)


def test_labels_are_a_seeded_fraction_of_each_class(benchmark: Any, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for label, count in (("ant", 20), ("bee", 8)):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "data" / split / label / f"{i:02}.png").touch()

    def chosen(seed: int, name: str) -> dict[str, list[str]]:
        cell = benchmark.Cell("data", "x", "vanilla", 30, seed)
        folder = benchmark.subset(tmp_path / "data", cell, tmp_path / name)
        return {
            f"{part.parent.name}/{part.name}": sorted(f.name for f in part.iterdir())
            for part in folder.glob("*/*")
        }

    one = chosen(0, "one")
    assert {name: len(files) for name, files in one.items()} == {
        "train/ant": 6,
        "train/bee": 3,
        "val/ant": 1,
        "val/bee": 1,
    }
    assert one == chosen(0, "two") != chosen(1, "three")

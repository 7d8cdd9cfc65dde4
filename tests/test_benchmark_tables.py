"""The tables of benchmarks on the pages are those of the committed results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark_scripts import load_script

MNIST = r"\| 60 \| mnist \| \d+\.\d "


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("tables", monkeypatch)


def test_every_page_shows_the_results(tables: Any) -> None:
    assert tables.main(["--check"]) == 0, "run python benchmarks/tables.py"


def test_every_table_is_shown_on_a_page(tables: Any) -> None:
    pages = [(tables.ROOT / name).read_text(encoding="utf-8") for name in tables.PAGES]
    shown = [found[1] for page in pages for found in tables.BLOCK.finditer(page)]
    assert set(shown) == set(tables.TABLES)
    assert [page for page in pages if not tables.BLOCK.search(page)] == []


def test_another_result_is_noticed_and_written(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in tables.PAGES:
        page = tmp_path / name
        page.parent.mkdir(exist_ok=True)
        text = (tables.ROOT / name).read_text(encoding="utf-8")
        page.write_text(re.sub(MNIST, "| 60 | mnist | 99.9 ", text), encoding="utf-8")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.main(["--check"]) == 1
    written = tmp_path / "docs" / "benchmarks.md"
    assert "| mnist | 99.9 " in written.read_text(encoding="utf-8")
    assert tables.main([]) == 0
    assert tables.main(["--check"]) == 0
    assert re.search(MNIST, written.read_text(encoding="utf-8"))
    assert "| mnist | 99.9 " not in written.read_text(encoding="utf-8")


def test_seeds_of_one_dataset_are_averaged_and_their_lead_has_an_error(
    tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"group": "held out", "images": "60", "size": "96", "dataset": "ants", "fastai": "50"}
    row |= {"timm_style": "40", "probe": "70"}
    seeds = [
        {**row, "seed": seed, "visiongraft": ours} for seed, ours in (("0", "80"), ("1", "90"))
    ]
    monkeypatch.setattr(tables, "_read", lambda name: seeds)
    assert "| 60 | ants | 85.0 | 50.0 | 40.0 | 70.0 | +15.0 ± 5.0 |" in tables.peers()

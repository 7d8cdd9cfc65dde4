"""The commands that list and remove cached features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from visiongraft.caching.shared import add_entry, new_folder
from visiongraft.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISIONGRAFT_CACHE", str(tmp_path))
    return tmp_path / "features"


def add(folder: Path) -> None:
    arrays = {"values-0": np.zeros((5, 4), np.float32)}
    about = {"backbone": "toy", "layers": ["all"], "images": 5, "dtype": "float32"}
    with new_folder(folder) as written:
        np.save(written / "values-0.npy", arrays["values-0"])
        add_entry(written, "abc", arrays, about)


def test_an_empty_cache_is_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "ls"]) == 0
    assert capsys.readouterr().out == f"0 B of at most 10 GB in {folder}\n"
    assert not folder.exists()


def test_cached_features_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(folder)
    assert main(["cache", "ls"]) == 0
    heading, row, summary = capsys.readouterr().out.splitlines()
    assert heading.split() == ["backbone", "layers", "images", "type", "size", "last", "used"]
    assert row.split()[:4] == ["toy", "all", "5", "float32"]
    assert summary.endswith(f"of at most 10 GB in {folder}")


def test_json_lists_what_each_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(folder)
    assert main(["cache", "ls", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    (entry,) = values["caches"]
    size = sum(path.stat().st_size for path in (folder / "abc").iterdir())
    assert values["bytes"] == entry["bytes"] == size
    assert (entry["key"], entry["backbone"], entry["images"]) == ("abc", "toy", 5)


def test_a_damaged_entry_is_listed_as_such(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "abc").mkdir(parents=True)
    assert main(["cache", "ls"]) == 0
    assert "damaged" in capsys.readouterr().out


def test_clear_removes_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(folder)
    assert main(["cache", "clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == 1
    assert list(folder.iterdir()) == []
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == f"removed 0 cached feature sets, 0 B, from {folder}\n"


def test_cache_alone_shows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    main(["cache", "--help"])
    out = capsys.readouterr().out
    assert "ls" in out and "clear" in out

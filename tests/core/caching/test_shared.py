"""Entries that runs share: complete or absent, undamaged or absent, and never more than the limit."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from visiongraft.caching import shared
from visiongraft.caching.shared import add_entry, clear, entries, new_folder, open_entry
from visiongraft.errors import VisiongraftError
from visiongraft.saving import lock
from visiongraft.saving.lock import locked

ARRAYS = {"values-0": np.arange(12, dtype=np.float32).reshape(4, 3), "sizes": np.zeros((4, 2))}


def add(folder: Path, key: str, arrays: Mapping[str, NDArray[Any]] = ARRAYS) -> None:
    with new_folder(folder) as written:
        for name, array in arrays.items():
            np.save(written / f"{name}.npy", array)
        add_entry(written, key, arrays, {"backbone": "toy"})


def keys(folder: Path) -> list[str]:
    return [entry.path.name for entry in entries(folder)]


def test_an_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    add(tmp_path, "a")
    found = open_entry(tmp_path, "a", list(ARRAYS))
    assert found is not None
    assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())
    assert not found["sizes"].flags.writeable
    assert open_entry(tmp_path, "b", list(ARRAYS)) is None


def test_a_new_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    add(tmp_path, "a")
    with pytest.raises(KeyError), new_folder(tmp_path) as written:
        np.save(written / "values-0.npy", ARRAYS["sizes"])
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_entry_that_is_being_written_is_neither_read_nor_listed(tmp_path: Path) -> None:
    with new_folder(tmp_path) as written:
        np.save(written / "values-0.npy", ARRAYS["sizes"])
        assert open_entry(tmp_path, "a", ["values-0"]) is None
        assert entries(tmp_path) == []


@pytest.mark.parametrize("fault", ["changed", "cut off", "missing", "not described", "pickled"])
def test_a_damaged_entry_is_not_used_but_removed(tmp_path: Path, fault: str) -> None:
    add(tmp_path, "a")
    values, about = tmp_path / "a" / "values-0.npy", tmp_path / "a" / "about.json"
    content = values.read_bytes()
    if fault == "changed":
        values.write_bytes(content[:-1] + b"\x01")
    elif fault == "cut off":
        values.write_bytes(content[:-4])
    elif fault == "missing":
        values.unlink()
    elif fault == "not described":
        about.write_text("{}")
    else:
        np.save(values, np.array([print], dtype=object), allow_pickle=True)
    assert open_entry(tmp_path, "a", list(ARRAYS)) is None
    assert entries(tmp_path) == []


def test_nothing_is_ever_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, "a")
    (tmp_path / "a" / "values-0.npy").write_bytes(pickle.dumps(ARRAYS))

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", load)
    assert open_entry(tmp_path, "a", list(ARRAYS)) is None


def test_the_least_recently_used_entries_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, key in enumerate("abc"):
        add(tmp_path, key)
        os.utime(tmp_path / key / "about.json", (1000 - age, 1000 - age))
    assert open_entry(tmp_path, "c", list(ARRAYS)) is not None  # now the most recently used
    monkeypatch.setattr(shared, "LIMIT", 3.5 * entries(tmp_path)[0].size)
    add(tmp_path, "d")
    assert sorted(keys(tmp_path)) == ["a", "c", "d"]
    assert sum(entry.size for entry in entries(tmp_path)) <= shared.LIMIT


def test_an_entry_that_another_process_added_first_is_kept(tmp_path: Path) -> None:
    with new_folder(tmp_path) as written:
        np.save(written / "values-0.npy", ARRAYS["sizes"])
        add(tmp_path, "a")
        add_entry(written, "a", {"values-0": ARRAYS["sizes"]}, {})
    assert open_entry(tmp_path, "a", list(ARRAYS)) is not None


def test_only_one_process_at_a_time_adds_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PATIENCE", 0.0)
    with locked(tmp_path), pytest.raises(VisiongraftError, match="in use"):
        add(tmp_path, "a")
    assert entries(tmp_path) == []
    add(tmp_path, "a")


def test_an_entry_that_is_removed_can_still_be_read(tmp_path: Path) -> None:
    add(tmp_path, "a")
    found = open_entry(tmp_path, "a", list(ARRAYS))
    assert found is not None and len(clear(tmp_path)) == 1
    assert np.array_equal(found["values-0"], ARRAYS["values-0"])
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_behind_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "YOUNG", -1.0)
    shutil.copytree(tmp_path, tmp_path / ".new-dead" / "entry", dirs_exist_ok=True)
    with new_folder(tmp_path) as written:
        add(tmp_path, "a")
        assert written.exists()  # it is in use
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_damaged_description_does_not_hide_an_entry(tmp_path: Path) -> None:
    for key, text in (("a", "no JSON"), ("b", json.dumps([1]))):
        add(tmp_path, key)
        (tmp_path / key / "about.json").write_text(text)
    (tmp_path / "c").mkdir()
    assert sorted(keys(tmp_path)) == ["a", "b", "c"]
    assert all(entry.about == {} for entry in entries(tmp_path))

"""A run folder has one writer, no leftovers of killed runs, and nothing of a refused start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from visiongraft.errors import DataError, OptionError, TrainingError, VisiongraftError, WeightsError
from visiongraft.saving import lock
from visiongraft.training.resuming.run_folder import run_folder, scratch_folder

QUICK: dict[str, Any] = {"schedule": "linear_probe", "epochs": 1}


@pytest.fixture(scope="module")
def ended() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_that_is_being_written_is_refused(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    class Second:
        from visiongraft.hookspecs import hookimpl

        @hookimpl
        def step_ended(self) -> None:
            for resume in (False, True):
                with pytest.raises(TrainingError, match="is in use by"):
                    fit_toy(toy_data(20), out=tmp_path / "run", resume=resume, **QUICK)

    fit_toy(toy_data(20), out=tmp_path / "run", callbacks=[Second()], **QUICK)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "run" / "run.lock").exists()


def test_the_next_start_removes_what_killed_runs_left(
    fit_toy: Any, toy_data: Any, tmp_path: Path, ended: int
) -> None:
    run = tmp_path / "run"
    fit_toy(toy_data(20), out=run, **QUICK)
    before = {path.relative_to(run) for path in run.rglob("*")}
    (run / "replay-a1b2c3_4").mkdir()
    (run / "replay-a1b2c3_4" / "train-0.npy").write_bytes(b"x")
    for name in (".config.json", "checkpoints/.last.safetensors", "model/.README.md"):
        path = run / name
        path.with_name(f"{path.name}.{ended}.tmp").write_bytes(b"x")
    fit_toy(toy_data(20), out=run, resume=True, **QUICK)
    assert {path.relative_to(run) for path in run.rglob("*")} == before


def test_what_others_wrote_is_kept(tmp_path: Path) -> None:
    kept = [
        tmp_path / "replay-holidays" / "photo.jpg",
        tmp_path / f".model.onnx.{os.getpid()}.tmp",  # of a process that is alive
        tmp_path / "notes.tmp",
        tmp_path / ".notes.txt.tmp",
    ]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    with run_folder(tmp_path, resume=False):
        pass
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"weights": "nowhere.pth"}, WeightsError),
        ({"data": []}, DataError),
        ({"callbacks": [object]}, OptionError),
        ({"schedule": "milestones(at={1: 'stage9'})"}, VisiongraftError),
    ],
)
def test_a_start_that_is_refused_leaves_nothing(
    fit_toy: Any, toy_data: Any, tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    settings = {"data": toy_data(20), "out": tmp_path / "deep" / "run", **QUICK, **changes}
    with pytest.raises(error):
        fit_toy(**settings)
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_is_interrupted_leaves_nothing_but_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "data-check.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt), run_folder(tmp_path, resume=False):
        (tmp_path / "inputs.json").write_text("{}")
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data-check.json", "notes.txt"]


def test_a_run_that_has_begun_is_kept_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="later"), run_folder(tmp_path / "run", resume=False):
        (tmp_path / "run" / "config.json").write_text("{}")
        raise ValueError("later")
    assert {"config.json", "run.log"} == {path.name for path in (tmp_path / "run").iterdir()}


def test_temporary_folders_of_killed_runs_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(lock, "YOUNG", -1.0)
    (tmp_path / "visiongraft-run-abc" / "replay-12345678").mkdir(parents=True)
    with scratch_folder() as alive:
        assert [path.name for path in tmp_path.iterdir()] == [alive.name]
        with scratch_folder() as second:
            assert alive.exists() and second.exists()
    assert list(tmp_path.iterdir()) == []

"""A run that is killed and resumed ends exactly as one that never stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from visiongraft.errors import CheckpointError, OptionError
from visiongraft.progress import Checkpoint

RUN = Path(__file__).with_name("run_toy.py")
AUGMENTED = {"epochs": 4, "checkpoint_every": 1, "ema": 0.9, "accumulate": 1}
REPLAYED = {"epochs": 8, "checkpoint_every": 1, "task": {"augment": False}}


def run(folder: Path, settings: dict[str, Any], *moment: str) -> int:
    words = [sys.executable, str(RUN), str(folder), json.dumps(settings), *moment]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if not moment:
        assert done.returncode == 0, done.stderr
    return done.returncode


def last(folder: Path) -> Checkpoint:
    return Checkpoint.read(folder / "checkpoints" / "last.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    a, b = last(one), last(other)
    assert a.tensors.keys() == b.tensors.keys()
    for group, tensors in a.tensors.items():
        assert tensors.keys() == b.tensors[group].keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, b.tensors[group][name]), f"{group} {name}"
    assert a.progress == b.progress
    assert a.values == b.values
    for file in ("metrics.jsonl", "receipts.json", "model/model.safetensors", "model/config.json"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, settings in (("augmented", AUGMENTED), ("replayed", REPLAYED)):
        folders[name] = tmp_path_factory.mktemp("whole") / name
        run(folders[name], settings)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("augmented", "step 1"),  # in the middle of the first epoch
        ("augmented", "step 2"),  # its last step, before its evaluation
        ("augmented", "phase 2"),  # just before the first step after an unfreeze
        ("augmented", "step 5"),  # just after it
        ("replayed", "step 3"),
        ("replayed", "phase 3"),
        ("replayed", "step 14"),
    ],
)
def test_kill_and_resume_is_bit_exact(tmp_path, whole, name, moment):
    settings = {"augmented": AUGMENTED, "replayed": REPLAYED}[name]
    folder = tmp_path / "run"
    assert run(folder, settings, moment) == -9
    run(folder, {"resume": True, **settings})
    assert_same_run(folder, whole[name])


@pytest.mark.slow
def test_a_run_survives_several_kills(tmp_path, whole):
    folder = tmp_path / "run"
    assert run(folder, AUGMENTED, "step 3") == -9
    for _ in range(2):
        assert run(folder, {"resume": True, **AUGMENTED}, "step 2") == -9
    run(folder, {"resume": True, **AUGMENTED})
    assert_same_run(folder, whole["augmented"])


def test_a_run_stopped_before_its_first_checkpoint_begins_anew(tmp_path, fit_toy, toy_data):
    folder = tmp_path / "run"
    first = fit_toy(toy_data(30), out=folder, epochs=1)
    for file in (folder / "checkpoints").iterdir():
        file.unlink()
    again = fit_toy(toy_data(30), out=folder, epochs=1, resume=True)
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])


def test_a_finished_run_resumes_to_itself(tmp_path, fit_toy, toy_data):
    folder = tmp_path / "run"
    first = fit_toy(toy_data(30), out=folder, epochs=2)
    again = fit_toy(toy_data(30), out=folder, epochs=2, resume=True)
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])


def test_a_task_object_with_a_tuple_among_its_options_resumes(tmp_path, fit_toy, toy_data, Toy):
    @dataclass(frozen=True)
    class Named(Toy):
        names: tuple[str, ...] = ("red", "green", "blue")

    for resume in (False, True):
        task = Named(augment=False)
        fit_toy(toy_data(30), task=task, out=tmp_path / "run", epochs=1, resume=resume)
    with pytest.raises(CheckpointError, match="task_options="):
        task = Named(augment=False, names=("a", "b", "c"))
        fit_toy(toy_data(30), task=task, out=tmp_path / "run", epochs=1, resume=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 9}, "epochs=9 \\(the run has 2\\)"),
        ({"batch_size": 3}, "batch_size=3 \\(the run has 16\\)"),
        ({"schedule": "full"}, "schedule="),
        ({"seed": 5}, "seed=5"),
    ],
)
def test_resuming_with_other_settings_is_refused(tmp_path, fit_toy, toy_data, settings, words):
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=2)
    with pytest.raises(CheckpointError, match=words):
        fit_toy(toy_data(30), out=tmp_path / "run", resume=True, **{"epochs": 2, **settings})


def test_a_run_folder_is_never_overwritten(tmp_path, fit_toy, toy_data):
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=1)
    with pytest.raises(OptionError, match="already holds a run; pass resume=True"):
        fit_toy(toy_data(30), out=tmp_path / "run", epochs=1)


def test_there_must_be_a_run_to_resume(tmp_path, fit_toy, toy_data):
    with pytest.raises(CheckpointError, match="holds no run to resume"):
        fit_toy(toy_data(30), out=tmp_path / "run", resume=True)
    with pytest.raises(CheckpointError, match="needs out=FOLDER"):
        fit_toy(toy_data(30), resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path, fit_toy, toy_data):
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=1)
    file = tmp_path / "run" / "checkpoints" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"last\.safetensors is damaged"):
        fit_toy(toy_data(30), out=tmp_path / "run", epochs=1, resume=True)


def test_a_checkpoint_holds_nothing_pickled(tmp_path, fit_toy, toy_data):
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=1)
    files = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert {p.suffix for p in files} <= {".json", ".jsonl", ".safetensors", ".md", ".log", ".png"}
    # Pickles begin with a protocol mark, zip archives (torch.save) with PK.
    assert not [p for p in files if p.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x04")]

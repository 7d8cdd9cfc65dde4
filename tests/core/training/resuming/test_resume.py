"""A run that is killed and resumed ends exactly like an uninterrupted one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from visiongraft.errors import CheckpointError
from visiongraft.training.resuming.checkpoint import Checkpoint

AUGMENTED = {"epochs": 4, "checkpoint_every": 1, "ema": 0.9, "accumulate": 1}
REPLAYED = {"epochs": 8, "checkpoint_every": 1, "task": {"augment": False}, "swa": 5}
SHRINKING = {**AUGMENTED, "schedule": "milestones(at={0: 'all', 2: 'head'}, learning_rate=0.02)"}
ADAPTED = {**AUGMENTED, "schedule": "gradual(learning_rate=0.02)", "adapters": ["gains"]}
FURTHER = {
    "kind": "streaming",
    "evaluate_on": {"old": 7, "other": 5},
    "select": "best(old.share_right >= -0.5)",
    "streams": {"unlabelled": 23},
}
ADVERSARIAL = {"plugin": "adversarial", "epochs": 2, "checkpoint_every": 1, "batch_size": 8}
STAGES = {
    "plugin": "missing_targets",
    "others": ["adapter_stages"],
    "adapters": ["update(rank=1)"],
    "schedule": "adapters_by_stages",
    "epochs": 3,
    "checkpoint_every": 1,
    "batch_size": 8,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "adapter stages": STAGES,
    "augmented": AUGMENTED,
    "further data": {**AUGMENTED, **FURTHER},
    "replayed": REPLAYED,
    "shrinking": SHRINKING,
    "adapted": ADAPTED,
    "adversarial": ADVERSARIAL,
}


def last(folder: Path) -> Checkpoint:
    return Checkpoint.read(folder / "checkpoints" / "last.safetensors")


def records(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    a, b = last(one), last(other)
    assert a.tensors.keys() == b.tensors.keys()
    for group, tensors in a.tensors.items():
        assert tensors.keys() == b.tensors[group].keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, b.tensors[group][name]), f"{group} {name}"
    assert a.state == b.state
    assert a.values == b.values
    for file in ("metrics.jsonl", "receipts.json", "model/model.safetensors", "model/config.json"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


class Uninterrupted(dict[str, Path]):
    """Uninterrupted runs, each made when it is first compared with."""

    def __init__(self, run: Callable[..., int], folder: Path) -> None:
        super().__init__()
        self.run, self.folder = run, folder

    def __missing__(self, name: str) -> Path:
        assert self.run(self.folder / name, SETTINGS[name]) == 0
        self[name] = self.folder / name
        return self[name]


@pytest.fixture(scope="module")
def whole(run: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    return Uninterrupted(run, tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("augmented", "step 1"),  # in the middle of the first epoch
        pytest.param(
            "augmented", "step 2", marks=pytest.mark.exhaustive
        ),  # its last step, before its evaluation
        ("augmented", "phase 2"),  # just before the first step after an unfreeze
        pytest.param("augmented", "step 5", marks=pytest.mark.exhaustive),  # just after it
        ("augmented", "write 5"),  # the first best weights are written but not renamed
        ("augmented", "write 6"),  # the checkpoint that names them, likewise
        ("further data", "step 2"),  # in the middle of an epoch and of a stream
        pytest.param("further data", "step 4", marks=pytest.mark.exhaustive),
        pytest.param("further data", "phase 2", marks=pytest.mark.exhaustive),
        pytest.param("further data", "write 9", marks=pytest.mark.exhaustive),
        pytest.param("replayed", "step 3", marks=pytest.mark.exhaustive),
        ("replayed", "phase 3"),
        pytest.param("replayed", "step 14", marks=pytest.mark.exhaustive),
        pytest.param(
            "shrinking", "step 3", marks=pytest.mark.exhaustive
        ),  # before a stage is frozen again
        ("shrinking", "phase 2"),
        pytest.param("shrinking", "step 6", marks=pytest.mark.exhaustive),  # after it
        ("adapted", "step 5"),  # in the first epoch that trains an adapter
        ("adversarial", "update 3"),  # between the two optimizers of a step
        pytest.param("adversarial", "step 5", marks=pytest.mark.exhaustive),
        ("adapter stages", "phase 2"),  # just before the first step of adapters
        pytest.param("adapter stages", "step 11", marks=pytest.mark.exhaustive),
    ],
)
def test_kill_and_resume_is_bit_exact(
    tmp_path: Path, run: Callable[..., int], whole: dict[str, Path], name: str, moment: str
) -> None:
    folder = tmp_path / "run"
    assert run(folder, SETTINGS[name], moment) == -9
    assert run(folder, {"resume": True, **SETTINGS[name]}) == 0
    assert_same_run(folder, whole[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(2, 10))]
)
def test_kills_at_random_moments_change_nothing(
    tmp_path: Path, run: Callable[..., int], whole: dict[str, Path], seed: int
) -> None:
    chance = random.Random(seed)
    name = chance.choice(sorted(SETTINGS))
    folder = tmp_path / "run"
    kills = 0
    for _ in range(3):
        kind = chance.choice(["step", "step", "write"])
        resume = (folder / "config.json").is_file()  # before it is there nothing has begun
        moment = f"{kind} {chance.randint(1, 6)}"
        kills += run(folder, {"resume": resume, **SETTINGS[name]}, moment) == -9
    assert kills
    run(folder, {"resume": True, **SETTINGS[name]})
    assert_same_run(folder, whole[name])


@pytest.mark.slow
def test_a_resumed_run_that_differs_would_be_noticed(
    tmp_path: Path, run: Callable[..., int], whole: dict[str, Path]
) -> None:
    """Here the optimizer state is lost."""
    folder = tmp_path / "run"
    assert run(folder, SETTINGS["augmented"], "step 3") == -9
    path = folder / "checkpoints" / "last.safetensors"
    point = Checkpoint.read(path)
    for tensor in point.tensors["optimizer"].values():
        tensor.zero_()
    point.write(path)
    assert run(folder, {"resume": True, **SETTINGS["augmented"]}) == 0
    with pytest.raises(AssertionError):
        assert_same_run(folder, whole["augmented"])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_three_processes_resume_in_the_middle_of_an_epoch_as_if_never_stopped(
    tmp_path: Path, run: Callable[..., int]
) -> None:
    settings = {**AUGMENTED, "processes": 3, "epochs": 2, "batch_size": 4, "count": 51}
    settings["schedule"] = "full(learning_rate=0.02)"
    assert run(tmp_path / "whole", settings) == 0
    assert run(tmp_path / "run", settings, "step 3") == -9
    assert last(tmp_path / "run").state.step == 2
    sums = last(tmp_path / "run").values["sums"]
    seen = {tuple(each["entropy"]) for each in sums}
    assert len(seen) == 3  # each process has seen other samples
    shutil.copytree(tmp_path / "run", tmp_path / "faulty")
    assert run(tmp_path / "run", {"resume": True, **settings}) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert run(tmp_path / "faulty", {"resume": True, **settings}, "shared sums") == 0
    losses = [records(tmp_path / name)[0]["train"]["loss"] for name in ("whole", "run", "faulty")]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
def test_two_processes_resume_in_the_middle_of_a_stream_as_if_never_stopped(
    tmp_path: Path, run: Callable[..., int]
) -> None:
    settings = {**AUGMENTED, **FURTHER, "processes": 2, "epochs": 2, "batch_size": 4}
    settings["schedule"] = "full(learning_rate=0.02)"
    assert run(tmp_path / "whole", settings) == 0
    assert run(tmp_path / "run", settings, "step 3") == -9
    assert last(tmp_path / "run").state.streams == {"unlabelled": 2 * 2 * 4}
    assert run(tmp_path / "run", {"resume": True, **settings}) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_missing_targets_count_alike_in_one_process_and_in_two(
    tmp_path: Path, run: Callable[..., int]
) -> None:
    settings = {"plugin": "missing_targets", "epochs": 2, "optimizer": "sgd", "count": 60}
    settings |= {"schedule": "linear_probe(learning_rate=0.1)", "replay": "off"}
    assert run(tmp_path / "one", {**settings, "batch_size": 12}) == 0
    assert run(tmp_path / "two", {**settings, "batch_size": 6, "processes": 2}) == 0
    one, two = (last(tmp_path / name) for name in ("one", "two"))
    for name, tensor in one.tensors["network"].items():
        torch.testing.assert_close(two.tensors["network"][name], tensor, rtol=1e-5, atol=1e-6)
    losses = [[r["train"]["answers"] for r in records(tmp_path / name)] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


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


def test_there_must_be_a_run_to_resume(tmp_path, fit_toy, toy_data):
    with pytest.raises(CheckpointError, match="contains no run to resume"):
        fit_toy(toy_data(30), out=tmp_path / "run", resume=True)
    with pytest.raises(CheckpointError, match="requires out=FOLDER"):
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

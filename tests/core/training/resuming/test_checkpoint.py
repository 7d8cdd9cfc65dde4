"""Checkpoints are restored bit for bit, and a damaged one is refused in one line."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.errors import CheckpointError
from visiongraft.hookspecs import hookimpl
from visiongraft.saving.tensor_files import CHECKSUM, read_tensors, write_tensors
from visiongraft.training.resuming.checkpoint import Checkpoint, RunState, read_best

PROGRESS = RunState(
    phase=1,
    phase_epoch=2,
    step=3,
    epoch=4,
    sums={"loss": [0.1 + 0.2, 16.0]},
    history=[{"epoch": 0, "phase": 0, "validation": {"good": 1 / 3}, "best": True}],
    receipts=[{"phase": 0, "frozen": {"backbone.stem": "ab" * 32}}],
    best={"epoch": 0, "value": 1 / 3, "file": "best-0.safetensors", "results": {"table": [[1]]}},
    stale=1,
    snapshot={"backbone.stem": "cd" * 32},
    replayed=True,
)
TENSORS = {
    "network": {"head.weight": torch.tensor([[1.0, -0.0, float("nan"), 1e-45]])},
    "optimizer": {"head.weight/exp_avg": torch.randn(3, 1), "head.weight/step": torch.tensor(7.0)},
    "ema": {"head.weight": torch.randn(2).bfloat16()},
    "random0": {"torch": torch.get_rng_state()},
}
CHECKPOINT = Checkpoint(PROGRESS, TENSORS, {"scaler": None, "random": [{"numpy": [1, 2]}]})


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().flatten().view(torch.uint8).numpy())


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert one.state == other.state
    assert one.values == other.values
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensors in one.tensors.items():
        assert tensors.keys() == other.tensors[name].keys()
        for key, tensor in tensors.items():
            got = other.tensors[name][key]
            assert (got.dtype, got.shape, bits(got)) == (tensor.dtype, tensor.shape, bits(tensor))


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    CHECKPOINT.write(tmp_path / "last.safetensors")
    assert_same(CHECKPOINT, Checkpoint.read(tmp_path / "last.safetensors"))


def test_a_changed_tensor_would_be_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    CHECKPOINT.write(path)
    point = Checkpoint.read(path)
    point.tensors["ema"]["head.weight"][1] += 1
    with pytest.raises(AssertionError):
        assert_same(CHECKPOINT, point)


@given(data=st.data())
def test_a_flipped_bit_anywhere_is_refused_in_one_line_that_names_the_file(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "last.safetensors"
    CHECKPOINT.write(path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot resume: ") as caught:
        assert_same(CHECKPOINT, Checkpoint.read(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_flipped_bit_in_the_best_weights_is_refused(tmp_path: Path) -> None:
    best = tmp_path / "best-3.safetensors"
    write_tensors(best, {"head.weight": torch.ones(2)}, {"epoch": 3})
    content = bytearray(best.read_bytes())
    content[-1] ^= 1
    best.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"best-3\.safetensors is damaged: .*checksum; restore"
    ):
        read_best(best)


def test_a_checkpoint_without_a_checksum_is_refused(path: Path) -> None:
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {k: v for k, v in file.metadata().items() if k != CHECKSUM}
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=r"last\.safetensors is damaged: it has no checksum"):
        Checkpoint.read(path)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    sums=st.dictionaries(st.text(), st.lists(st.floats(allow_nan=False)), max_size=3),
    history=st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=3),
    replayed=st.none() | st.booleans(),
    names=st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=3),
)
def test_any_position_and_any_names_come_back(
    tmp_path: Path,
    sums: dict[str, list[float]],
    history: list[dict[str, Any]],
    replayed: bool | None,
    names: set[str],
) -> None:
    progress = replace(PROGRESS, sums=sums, history=history, replayed=replayed)
    tensors = {"network": {name: torch.randn(2) for name in names}} if names else {}
    checkpoint = Checkpoint(progress, tensors, {"history": history})
    checkpoint.write(tmp_path / "last.safetensors")
    assert_same(checkpoint, Checkpoint.read(tmp_path / "last.safetensors"))


def test_a_new_run_stands_at_its_beginning() -> None:
    fresh = RunState()
    assert (fresh.phase, fresh.phase_epoch, fresh.step, fresh.epoch) == (0, 0, 0, 0)
    assert fresh.best is None and fresh.replayed is None
    assert not (fresh.history or fresh.receipts or fresh.snapshot or fresh.sums)
    fresh.history.append({})
    assert RunState().history == []


# ---- the number of processes ----


def checkpoint_of(processes: int, step: int) -> Checkpoint:
    return Checkpoint(RunState(step=step), {}, {"random": [{}] * processes})


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("processes", [1, 3])
def test_as_many_processes_as_before_resume_without_a_word(processes: int, step: int) -> None:
    assert checkpoint_of(processes, step).check_processes(processes) == ()


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (
            3,
            1,
            "1 process instead of 3: steps are taken over other batches, so that results differ",
        ),
        (1, 2, "2 processes instead of 1: steps are taken over other batches"),
    ],
)
def test_another_number_of_processes_is_a_warning_between_epochs(
    before: int, now: int, words: str
) -> None:
    (warning,) = checkpoint_of(before, step=0).check_processes(now)
    assert warning.startswith(f"the run goes on with {words}")


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (3, 1, "1 process: .* whose batches 3 processes shared; resume it with 3, or start a new"),
        (1, 2, "2 processes: .* whose batches 1 process shared; resume it with 1, or"),
    ],
)
def test_another_number_of_processes_is_refused_within_an_epoch(
    before: int, now: int, words: str
) -> None:
    with pytest.raises(CheckpointError, match=f"cannot resume with {words}"):
        checkpoint_of(before, step=1).check_processes(now)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_run_compares_the_number_of_its_processes(
    fit_toy: Any,
    toy_data: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    stopped: bool,
) -> None:
    """Here the checkpoint of one process is made to look like that of two."""

    class Stopper:
        @hookimpl
        def checkpoint_saved(self) -> None:
            if stopped:
                raise KeyboardInterrupt

    settings: dict[str, Any] = {"schedule": "linear_probe", "epochs": 1, "checkpoint_every": 1}
    settings["out"] = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
        fit_toy(toy_data(30), callbacks=[Stopper()], **settings)
    path = tmp_path / "run" / "checkpoints" / "last.safetensors"
    point = Checkpoint.read(path)
    assert (point.state.step > 0) == stopped
    for values in ("random", "sums"):
        point.values[values] *= 2
    point.write(path)
    if stopped:
        with pytest.raises(CheckpointError, match="cannot resume with 1 process: the run stopped"):
            fit_toy(toy_data(30), resume=True, **settings)
        return
    with caplog.at_level(logging.WARNING, "visiongraft"):
        fit_toy(toy_data(30), resume=True, **settings)
    assert "the run goes on with 1 process instead of 2" in caplog.text


# ---- damage ----


@pytest.fixture
def path(tmp_path: Path) -> Path:
    CHECKPOINT.write(tmp_path / "last.safetensors")
    return tmp_path / "last.safetensors"


def rewrite(path: Path, change: Any) -> None:
    tensors, metadata = read_tensors(path)
    change(metadata)
    write_tensors(path, tensors, metadata)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.unlink(), "does not exist"),
        (lambda p: p.write_bytes(b""), "is damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "is damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:40]), "is damaged"),
        (lambda p: p.write_bytes(p.read_bytes() + b"x"), "is damaged"),
        (lambda p: p.write_bytes(b"\xff" * 8 + p.read_bytes()[8:]), "is damaged"),
        (
            lambda p: rewrite(p, lambda m: m.update(format=4, visiongraft="9.1.0")),
            r"was saved by visiongraft 9\.1\.0 in format 4; visiongraft .* reads format 3",
        ),
        (
            lambda p: rewrite(p, lambda m: (m.update(format=1), m.pop("visiongraft"))),
            r"was saved by visiongraft 0\.1\.0 in format 1; visiongraft .* reads format 3",
        ),
        (lambda p: rewrite(p, lambda m: m.clear()), "is not a checkpoint"),
        (lambda p: rewrite(p, lambda m: m.pop("state")), "is not a checkpoint .*state"),
        (lambda p: rewrite(p, lambda m: m.pop("values")), "is not a checkpoint .*values"),
        (lambda p: rewrite(p, lambda m: m["state"].update(more=1)), "is not a checkpoint .*more"),
        (lambda p: rewrite(p, lambda m: m.update(state=[1])), "is not a checkpoint"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_damaged_checkpoint_is_refused_in_one_line(path: Path, spoil: Any, words: str) -> None:
    spoil(path)
    with pytest.raises(CheckpointError, match=f"cannot resume: .*{words}") as caught:
        Checkpoint.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@given(data=st.data())
def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "last.safetensors"
    CHECKPOINT.write(path)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CheckpointError, match="is damaged"):
        Checkpoint.read(path)


def test_a_saved_model_is_not_a_checkpoint(fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    """It has a format number too, and nothing else in common."""
    fit_toy(toy_data(20), schedule="linear_probe", epochs=1, out=tmp_path / "run")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        Checkpoint.read(tmp_path / "run" / "model" / "model.safetensors")


def test_best_weights_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    best = tmp_path / "best-3.safetensors"
    with pytest.raises(
        CheckpointError, match=r"cannot resume: .*best-3\.safetensors does not exist"
    ):
        read_best(best)
    write_tensors(best, {"head.weight": torch.ones(2)}, {"epoch": 3})
    assert torch.equal(read_best(best)["head.weight"], torch.ones(2))
    best.write_bytes(best.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=r"best-3\.safetensors is damaged"):
        read_best(best)


def test_a_run_whose_best_weights_are_missing_is_refused(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"schedule": "linear_probe", "epochs": 1, "out": tmp_path / "run"}
    fit_toy(toy_data(20), **settings)
    (tmp_path / "run" / "checkpoints" / "best-0.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best-0\.safetensors does not exist"):
        fit_toy(toy_data(20), resume=True, **settings)


def test_a_checkpoints_metadata_are_json_alone(path: Path) -> None:
    _, metadata = read_tensors(path)
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata.keys() == {"format", "visiongraft", "state", "values"}

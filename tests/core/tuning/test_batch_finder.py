"""The batch size that is not given: what is chosen, and that the run is the one with that number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiongraft import fitting
from visiongraft.config import FitConfig
from visiongraft.errors import CheckpointError, OptionError, TrainingError
from visiongraft.schedules import Phase
from visiongraft.tuning import batch_finder
from visiongraft.tuning.batch_finder import candidates, choice_of, usual_batch_size


def out_of_memory() -> RuntimeError:
    return RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


# ---- the choice ----


@given(st.integers(1, 10**6))
def test_sizes_are_powers_of_two_that_leave_four_steps(images: int) -> None:
    sizes = candidates(images)
    assert sizes == sorted({2 ** (size.bit_length() - 1) for size in sizes})
    assert 2 <= sizes[0] and sizes[-1] <= 128
    assert sizes == [2] or images // sizes[-1] >= 4


@given(st.dictionaries(st.integers(1, 128), st.floats(0.1, 1e4), min_size=1))
def test_on_a_cpu_the_smallest_size_close_to_the_best_is_chosen(speeds: dict[int, float]) -> None:
    size = choice_of(speeds).size
    enough = 0.95 * max(speeds.values())
    assert speeds[size] >= enough
    assert all(speed < enough for other, speed in speeds.items() if other < size)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_without_a_wish_more_images_never_get_smaller_batches(some: int, more: int) -> None:
    some, more = sorted((some, more))
    assert 8 <= usual_batch_size(some) <= usual_batch_size(more) <= 32


def memory_of(limit: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let steps with more images than a limit fail for want of memory; return what is tried."""
    tried: list[int] = []

    def step(trial: Any) -> None:
        tried.append(trial.images)
        if trial.images > limit:
            raise out_of_memory()

    monkeypatch.setattr(batch_finder._Trial, "step", step)
    monkeypatch.setattr(batch_finder, "_fast_enough", batch_finder._largest)
    return tried


def test_on_a_gpu_sizes_are_halved_until_one_fits(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = memory_of(5, monkeypatch)
    chosen: list[Any] = []
    real = batch_finder.find_batch_size
    monkeypatch.setattr(
        batch_finder, "find_batch_size", lambda *a: chosen.append(real(*a)) or chosen[0]
    )
    monkeypatch.setattr(fitting.Engine, "train", stop)
    with pytest.raises(Stopped):
        fit_toy(toy_data(80), schedule="full", batch_size="auto", out=tmp_path / "run")
    assert (chosen[0].size, chosen[0].accumulate) == (4, 2)  # 8 is usual for 65 images
    assert chosen[0].reason == "the largest that fits into the memory of cpu; 8 does not fit"
    # 65 training images: with batches of 16 the last batch of an epoch has 17.
    assert tried[:3] == [17, 9, 5]


class Stopped(Exception):
    pass


def stop(*_: Any) -> None:
    raise Stopped


def test_a_network_of_which_no_batch_fits_is_refused_in_one_line(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_of(1, monkeypatch)
    with pytest.raises(TrainingError, match="not even 2 images fit into the memory of cpu"):
        fit_toy(toy_data(80), schedule="full", batch_size="auto", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    fit_toy: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(trial: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(batch_finder._Trial, "step", step)
    monkeypatch.setattr(batch_finder, "_fast_enough", batch_finder._largest)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit_toy(toy_data(80), schedule="full", batch_size="auto")


def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each size that is tried use more than half of the memory."""
    used = iter(range(0, 10**6, 1000))
    monkeypatch.setattr(batch_finder, "used_memory", lambda peak=False: next(used))
    monkeypatch.setattr(batch_finder, "available_memory", lambda: 1500)


def test_a_size_that_might_not_fit_on_a_cpu_is_made_up_of_several_batches(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little_memory(monkeypatch)
    run, settings = tmp_path / "run", {"schedule": "full", "epochs": 1, "batch_size": "auto"}
    auto = fit_toy(toy_data(80), **settings, out=run)
    config = FitConfig.read(run)
    assert (config.batch_size, config.accumulate) == (2, 4)
    said = "batch size 2 in steps of 4 batches: 4 might not fit into memory"
    assert said in (run / "run.log").read_text()
    plain = fit_toy(toy_data(80), **{**settings, "batch_size": 2}, accumulate=4)
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(auto.network.state_dict()[name], tensor), name
    again = fit_toy(toy_data(80), **settings, out=run, resume=True)
    assert again.facts["metrics"] == auto.facts["metrics"]


def test_gradients_are_accumulated_as_the_user_says(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little_memory(monkeypatch)
    settings = {"schedule": "full", "epochs": 1, "batch_size": "auto", "accumulate": 3}
    fit_toy(toy_data(80), **settings, out=tmp_path / "run")
    config = FitConfig.read(tmp_path / "run")
    assert (config.batch_size, config.accumulate) == (2, 3)


def test_the_phase_with_the_most_expensive_steps_is_tried(
    fit_toy: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Phase] = []

    def choose(run: Any, accelerator: Any, sizes: Any, index: int, phase: Phase) -> Any:
        tried.append(phase)
        return batch_finder.BatchChoice(8, "")

    monkeypatch.setattr(batch_finder, "_fast_enough", choose)
    monkeypatch.setattr(batch_finder._Trial, "seconds", cost)
    fit_toy(toy_data(80), schedule="lp_ft", epochs=2, batch_size="auto")
    assert [phase.trainable for phase in tried] == ["all"]


def cost(trial: Any) -> int:
    return sum(p.numel() for p in trial.engine.run.network.parameters() if p.requires_grad)


# ---- the run ----


def metrics(folder: Path) -> str:
    return (folder / "metrics.jsonl").read_text()


def test_the_run_equals_one_with_the_number_and_is_resumed_with_it(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, settings = toy_data(80), {"schedule": "full", "epochs": 2, "ema": 0.9}
    auto = fit_toy(data, batch_size="auto", out=tmp_path / "auto", **settings)
    stored = json.loads((tmp_path / "auto" / "config.json").read_text())["batch_size"]
    assert stored in candidates(65)
    plain = fit_toy(data, batch_size=stored, out=tmp_path / "plain", **settings)
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(auto.network.state_dict()[name], tensor), name
    assert metrics(tmp_path / "auto") == metrics(tmp_path / "plain")
    log = (tmp_path / "auto" / "run.log").read_text()
    assert f"batch size {stored}: close to the highest throughput (images/s: 2: " in log
    monkeypatch.setattr(batch_finder, "find_batch_size", stop)
    again = {"batch_size": "auto", "out": tmp_path / "auto", "resume": True, **settings}
    assert fit_toy(data, **again).facts["metrics"] == auto.facts["metrics"]
    with pytest.raises(CheckpointError, match=f"batch_size=7 .the run has {stored}."):
        fit_toy(data, **{**again, "batch_size": 7})


def test_a_run_without_a_batch_size_has_the_usual_one_and_is_resumed_with_it(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    settings = {"schedule": "full", "epochs": 1, "out": tmp_path / "run", "batch_size": None}
    fit_toy(toy_data(20), **settings)
    assert FitConfig.read(tmp_path / "run").batch_size == 8
    fit_toy(toy_data(20), resume=True, **settings)


def test_losses_that_compare_samples_get_large_batches_of_few_images(
    fit_toy: Any, toy_data: Any, Toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "loss_over_pairs", True)
    fit_toy(toy_data(20), schedule="full", epochs=1, batch_size=None, out=tmp_path / "run")
    assert FitConfig.read(tmp_path / "run").batch_size == 32


def test_the_choice_is_shown_as_the_run_begins(
    fit_toy: Any, toy_data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"schedule": "full", "epochs": 1, "callbacks": ("progress",)}
    fit_toy(toy_data(10), batch_size="auto", **settings)
    err = capsys.readouterr().err
    assert "batch size 2: the only one for 7 training images\n" in err


def test_another_word_is_refused(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match="batch_size='big' is not an integer of at least 1, nor"):
        fit_toy(toy_data(20), batch_size="big")

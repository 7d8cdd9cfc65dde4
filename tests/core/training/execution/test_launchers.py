"""Environment variables: those on processes are checked, and no setting comes out of others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from visiongraft.errors import TrainingError
from visiongraft.training.execution.devices import make_accelerator
from visiongraft.training.execution.launchers import (
    Launch,
    ignored_settings,
    read_launch,
    without_settings,
)


@pytest.fixture
def alone() -> Iterator[None]:
    """Start without the state that earlier runs left, and leave none."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


# ---- processes ----


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, Launch(1, 0)),
        ({"LOCAL_RANK": "-1"}, Launch(1, 0)),
        ({"LOCAL_RANK": "0"}, Launch(1, 0)),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, Launch(1, 0)),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_PORT": "29500"}, Launch(4, 3)),
        ({"PMI_SIZE": "2", "PMI_RANK": "1", "MPI_LOCALRANKID": "1"}, Launch(2, 1)),
    ],
)
def test_the_processes_of_a_launcher_are_read(environment: dict[str, str], launch: Launch) -> None:
    assert read_launch(environment) == launch


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE='abc' is not an integer of at least 1"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE=''"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0'"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE='2.0'"),
        ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE='9999"),
        ({"LOCAL_RANK": "5"}, "LOCAL_RANK='5' is not an integer of at least -1 below 1"),
        ({"RANK": "1"}, "RANK='1'"),
        ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}, "RANK='2'"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "²"}, "LOCAL_RANK='²'"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set, but RANK is not"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "WORLD_SIZE=2 is set, but LOCAL_RANK is not"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT='http'"),
    ],
)
def test_wrong_variables_of_a_launcher_are_refused_in_one_line(
    environment: dict[str, str], words: str
) -> None:
    with pytest.raises(TrainingError, match="start the processes with torchrun") as error:
        read_launch(environment)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250
    assert error.value.exit_code == 2


def test_a_run_refuses_them_before_it_writes_anything(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "abc")
    with pytest.raises(TrainingError, match="WORLD_SIZE='abc'"):
        fit_toy(toy_data(20), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("alone")
def test_processes_that_cannot_be_joined_are_not_blamed_on_the_precision(
    make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "29500"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")  # on two machines, but where is the first?
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(
        TrainingError, match=r"processes of the run cannot be joined: .*MASTER_ADDR"
    ):
        make_accelerator(make_config())


# ---- settings ----

SETTINGS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_DYNAMO_BACKEND": "inductor",
}


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in model.network.state_dict().items()}


@pytest.fixture(scope="module")
def plain(fit_toy: Any, toy_data: Any) -> dict[str, torch.Tensor]:
    return weights_of(fit_toy(toy_data(20), schedule="full", epochs=1))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", SETTINGS)
def test_no_variable_of_accelerate_changes_a_run(
    fit_toy: Any,
    toy_data: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plain: dict[str, torch.Tensor],
    name: str,
) -> None:
    monkeypatch.setenv(name, SETTINGS[name])
    model = fit_toy(toy_data(20), schedule="full", epochs=1, out=tmp_path / "run")
    assert all(torch.equal(t, plain[n]) for n, t in weights_of(model).items())
    log = (tmp_path / "run" / "run.log").read_text()
    assert f"environment variables do not change a run: ignoring {name}=" in log
    assert os.environ[name] == SETTINGS[name]


@pytest.mark.usefixtures("alone")
def test_gradient_accumulation_in_a_variable_would_change_a_run(
    fit_toy: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch, plain: dict[str, torch.Tensor]
) -> None:
    """The comparison above sees it, where the variable is neither hidden nor overruled."""
    from accelerate.utils import GradientAccumulationPlugin

    from visiongraft.training.execution import devices

    def as_asked(num_steps: int) -> GradientAccumulationPlugin:
        return GradientAccumulationPlugin(num_steps=4)

    monkeypatch.setattr(devices, "GradientAccumulationPlugin", as_asked)
    model = fit_toy(toy_data(20), schedule="full", epochs=1)
    assert not all(torch.equal(t, plain[n]) for n, t in weights_of(model).items())


def test_what_accelerate_launch_sets_by_itself_is_not_mentioned() -> None:
    neutral = {
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_USE_CPU": "False",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "ACCELERATE_DEBUG_MODE": "true",
        "PATH": "/bin",
    }
    assert ignored_settings(neutral) == ()


def test_a_harmless_variable_that_accelerate_would_refuse_is_ignored_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_DEBUG_MODE", "maybe")
    with without_settings():
        assert "ACCELERATE_DEBUG_MODE" not in os.environ
    assert "ignoring ACCELERATE_DEBUG_MODE='maybe'" in ignored_settings()[0]


def test_one_process_of_a_launcher_waits_for_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "nowhere.invalid"}
    for name, value in alone.items():
        monkeypatch.setenv(name, value)
    with without_settings():
        assert not {"WORLD_SIZE", "RANK", "LOCAL_RANK"} & os.environ.keys()
    assert os.environ["WORLD_SIZE"] == "1"


def test_hidden_variables_come_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    with pytest.raises(KeyError), without_settings():
        assert "ACCELERATE_TORCH_DEVICE" not in os.environ
        raise KeyError
    assert os.environ["ACCELERATE_TORCH_DEVICE"] == "meta"

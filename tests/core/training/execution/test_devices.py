"""Devices: one accelerator per run, renewed where runs differ, refused where it would silently differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from visiongraft.errors import TrainingError
from visiongraft.training.execution.devices import make_accelerator


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Start without the state that earlier runs left, and leave none."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_run_on_the_cpu_is_one_process_on_the_cpu(make_config: Any) -> None:
    made = make_accelerator(make_config(device="cpu"))
    assert made.device.type == "cpu"
    assert (made.num_processes, made.is_main_process) == (1, True)
    assert made.mixed_precision == "no"


def test_without_a_device_the_best_there_is_is_taken(make_config: Any) -> None:
    made = make_accelerator(make_config(device=None))
    assert made.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("order", [("no", "bf16", "no"), ("bf16", "bf16", "no", "bf16")])
def test_each_run_gets_its_own_precision_whatever_ran_before(
    make_config: Any, order: tuple[str, ...]
) -> None:
    for precision in order:
        made = make_accelerator(make_config(precision=precision))
        assert made.mixed_precision == precision
        with made.autocast():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype is (torch.bfloat16 if precision == "bf16" else torch.float32)


def test_an_environment_of_the_launcher_does_not_change_the_settings(
    make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert make_accelerator(make_config(precision="no")).mixed_precision == "no"


def test_a_precision_that_the_device_does_not_have_is_refused_not_ignored(
    make_config: Any,
) -> None:
    """Accelerate would silently compute in float32."""
    with pytest.raises(TrainingError, match="precision='fp16' does not work on this device") as bad:
        make_accelerator(make_config(precision="fp16"))
    assert "\n" not in str(bad.value)
    assert make_accelerator(make_config(precision="no")).mixed_precision == "no"


def test_a_refused_precision_leaves_no_run_behind(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="precision='fp16'"):
        fit_toy(toy_data(20), precision="fp16", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    fit_toy(toy_data(20), out=tmp_path / "run", schedule="linear_probe", epochs=1)

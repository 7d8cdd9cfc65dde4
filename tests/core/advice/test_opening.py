"""``open_on_gain``: what trains next depends on whether validation has improved."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.core.stopping import StopAt
from visiongraft.advice.opening import open_on_gain
from visiongraft.schedules import Phase
from visiongraft.training.resuming.checkpoint import Checkpoint

STAGES = ("stem", "stage1", "stage2")


def drive(epochs: int, gains: tuple[bool, ...], **options: Any) -> tuple[list[Phase], str | None]:
    """Return the phases, and why the schedule ends, if phases improve or not."""
    phases = open_on_gain(**options).phases(STAGES, epochs)
    found, history = [next(phases)], []
    while True:
        number = len(found) - 1
        history += [{"phase": number, "best": gains[number]}] * found[-1].epochs
        try:
            found.append(phases.send(list(history)))
        except StopIteration as end:
            return found, end.value


def test_all_stages_train_for_the_rest_if_the_last_ones_improved() -> None:
    phases, end = drive(10, (True, True, False))
    assert [(phase.trainable, phase.epochs) for phase in phases] == [
        ("head", 3), ("stage2", 2), ("all", 5),
    ]  # fmt: skip
    assert phases[2].patience is None and phases[2].reason == "the last stages improved on the head"
    assert end is None


@pytest.mark.parametrize("improves", [True, False])
def test_all_stages_have_a_trial_if_the_last_ones_did_not_improve(improves: bool) -> None:
    phases, end = drive(10, (True, False, improves))
    assert [phase.patience for phase in phases] == [None, None, 2]
    assert "did not improve on the head; all stages have 2 epochs" in phases[2].reason
    assert (end is None) is improves
    assert improves or end == "neither the last stages nor all stages improved on the head"


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, ["all"]), (2, ["head", "all"]), (3, ["head", "all"])]
)
def test_few_epochs_open_all_stages_at_once(epochs: int, expected: list[str]) -> None:
    phases, _ = drive(epochs, (True,) * 4)
    assert [phase.trainable for phase in phases] == expected
    assert sum(phase.epochs for phase in phases) == epochs


def test_reasons_are_printed_and_recorded_and_a_stopped_run_resumes_exactly(
    fit_toy: Any, toy_data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"schedule": "open_on_gain", "epochs": 4, "checkpoint_every": 1}
    data = toy_data(40)
    with caplog.at_level(logging.INFO, "visiongraft"):
        fit_toy(data, out=tmp_path / "whole", **settings)
    records = [
        json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    ]
    assert "reason" not in records[1] and "the last stages" in records[2]["reason"]
    assert len(records) == 4 or "the schedule ends: neither" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        fit_toy(data, out=tmp_path / "run", callbacks=[StopAt(5)], **settings)
    fit_toy(data, out=tmp_path / "run", resume=True, **settings)
    one, other = (
        Checkpoint.read(tmp_path / name / "checkpoints" / "last.safetensors")
        for name in ("whole", "run")
    )
    assert one.state == other.state
    for name, tensor in one.tensors["network"].items():
        assert tensor.equal(other.tensors["network"][name]), name

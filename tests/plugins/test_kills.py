"""Runs with several optimizers, latents or clips that SIGKILL ends within a step go on exactly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from visiongraft.training.resuming.checkpoint import Checkpoint

SCRIPT = Path(__file__).with_name("killed_runs.py")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("task", "update"),
    [
        ("autoencoder", 2),
        ("adversarial", 3),  # of two in each step: between critic and generator
        ("pix2pix", 3),  # likewise
        ("CycleGAN", 3),  # between critics and generators
        ("video", 2),
    ],
)
def test_a_run_that_was_killed_within_a_step_ends_like_one_that_was_not(
    tmp_path: Path, task: str, update: int
) -> None:
    command = [sys.executable, str(SCRIPT), task, str(tmp_path), str(update)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    killed, whole = (
        Checkpoint.read(tmp_path / name / "checkpoints" / "last.safetensors")
        for name in ("killed", "whole")
    )
    assert killed.state == whole.state
    assert killed.tensors.keys() == whole.tensors.keys()
    for group, tensors in whole.tensors.items():
        assert tensors.keys() == killed.tensors[group].keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, killed.tensors[group][name]), f"{group} {name}"
    for file in ("receipts.json", "model/model.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()

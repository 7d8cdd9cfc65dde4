"""Checks that training is reproducible, also with worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from torch import Tensor

from visiongraft.testing.equality import same
from visiongraft.testing.report import Checks, Fault, expect
from visiongraft.testing.tasks.runs import Trained
from visiongraft.testing.tasks.trial import TaskTrial
from visiongraft.training.checkpoint import Checkpoint

check = Checks(TaskTrial.of)


@check("seeds.seeded")
def equal_runs_are_equal(trial: TaskTrial) -> None:
    """Two runs with equal settings have identical weights and metrics."""
    one, other = trial.short("run"), trial.short("second run")
    expect_same_runs(
        one,
        other,
        "to train twice with one seed",
        "identical results: all randomness must come from torch, numpy or random, and no state may be "
        "kept outside of parameters and buffers",
    )


@check("task.Task.train_transform")
def workers_change_nothing(trial: TaskTrial) -> None:
    """Training is identical with and without data loading workers."""
    settings: dict[str, Any] = {"schedule": "full", "epochs": 1}
    alone = trial.fit("to train without worker processes", **settings)
    helped = trial.fit("to train with a worker process", workers=1, **settings)
    _expect_equal(
        alone.model.network.state_dict(),
        helped.model.network.state_dict(),
        "to train with and without a worker process",
        "identical weights",
    )


def expect_same_runs(one: Trained, other: Trained, tried: str, expected: str) -> None:
    """Raise a fault unless two runs took the same steps and ended with the same checkpoint."""
    assert one.folder is not None and other.folder is not None
    # A resumed run records its last steps only.
    for first, second in zip(one.losses[::-1], other.losses[::-1], strict=False):
        expect(first == second, tried, f"losses {second}, not {first}", expected)
    folders = (one.folder, other.folder)
    ends = [Checkpoint.read(f / "checkpoints" / "last.safetensors").tensors for f in folders]
    expect(ends[0].keys() == ends[1].keys(), tried, f"only {', '.join(ends[1])}", expected)
    for group, tensors in ends[0].items():
        _expect_equal(tensors, ends[1][group], tried, expected)
    histories = [(f / "metrics.jsonl").read_text("utf-8").splitlines() for f in folders]
    for line, again in zip_longest(*histories):
        expect(line == again, tried, f"metrics {again}, not {line}", expected)


def _expect_equal(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], tried: str, expected: str
) -> None:
    odd = sorted(one.keys() ^ other.keys())
    expect(not odd, tried, f"{', '.join(odd[:3])} in one of them only", expected)
    for name, tensor in one.items():
        if not same(tensor, other[name]):
            difference = float((tensor.double() - other[name].double()).abs().max())
            raise Fault(tried, f"{name!r} that differs by {difference:.2g}", expected)


REPRODUCING_CHECKS = tuple(check)

"""Checks that training is reproducible, also with worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from torch import Tensor

from visiongraft.testing.equality import same
from visiongraft.testing.report import Attempt, Checks
from visiongraft.testing.tasks.runs import Trained
from visiongraft.testing.tasks.trial import TaskTrial

check = Checks(TaskTrial.of)


@check("seeds.seeded")
def equal_runs_are_equal(trial: TaskTrial) -> None:
    """Two runs with equal settings have identical weights and metrics."""
    one, other = trial.short("run"), trial.short("second run")
    training = Attempt(
        "to train twice with one seed",
        "identical results: all randomness must come from torch, numpy or random, and no state may be "
        "kept outside of parameters and buffers",
    )
    expect_same_runs(one, other, training)


@check("task.Task.train_transform")
def workers_change_nothing(trial: TaskTrial) -> None:
    """Training is identical with and without data loading workers."""
    settings: dict[str, Any] = {"schedule": "full", "epochs": 1}
    alone = trial.fit("to train without worker processes", **settings)
    helped = trial.fit("to train with a worker process", workers=1, **settings)
    weights, others = (run.model.network.state_dict() for run in (alone, helped))
    training = Attempt("to train with and without a worker process", "identical weights")
    _expect_equal(weights, others, training)


def expect_same_runs(one: Trained, other: Trained, attempt: Attempt) -> None:
    """Raise a fault unless two runs took the same steps and ended with the same checkpoint."""
    # A resumed run records its last steps only.
    for first, second in zip(one.losses[::-1], other.losses[::-1], strict=False):
        attempt.expect(first == second, f"losses {second}, not {first}")
    end, other_end = one.last_tensors(), other.last_tensors()
    attempt.expect(end.keys() == other_end.keys(), f"only {', '.join(other_end)}")
    for group, tensors in end.items():
        _expect_equal(tensors, other_end[group], attempt)
    folders = (one.folder, other.folder)
    histories = [(f / "metrics.jsonl").read_text("utf-8").splitlines() for f in folders]
    for line, again in zip_longest(*histories):
        attempt.expect(line == again, f"metrics {again}, not {line}")


def _expect_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor], attempt: Attempt) -> None:
    odd = sorted(one.keys() ^ other.keys())
    attempt.expect(not odd, f"{', '.join(odd[:3])} in one of them only")
    for name, tensor in one.items():
        if not same(tensor, other[name]):
            difference = float((tensor.double() - other[name].double()).abs().max())
            attempt.expect(False, f"{name!r} that differs by {difference:.2g}")


REPRODUCING_CHECKS = tuple(check)

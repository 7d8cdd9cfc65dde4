"""Check that a killed run, once resumed, ends as one that was never interrupted."""

from __future__ import annotations

from typing import Any

from visiongraft.testing.report import Fault, checks_of
from visiongraft.testing.tasks.reproducing import expect_same_runs
from visiongraft.testing.tasks.runs import Killed, RunRecorder
from visiongraft.testing.tasks.trial import TaskTrial

check = checks_of(TaskTrial.of)


@check("task.Task.build_loss")
def a_killed_run_resumes_exactly(trial: TaskTrial) -> None:
    """A run that is killed and resumed ends as one that never stopped, bit by bit."""
    whole = trial.short("run")
    settings = trial.short_settings("killed run")
    steps = len(whole.losses)
    # Where there are two phases, the first step of the second, before its checkpoint is saved; then
    # again one step later, which is in the midst of an epoch.
    first = steps // 2 + 1
    _kill(trial, first, **settings)
    words = f"to kill a run after step {first} of {steps} and resume it"
    if first < steps:
        _kill(trial, 2, resume=True, **settings)
        words = f"to kill a run after steps {first} and {first + 1} of {steps} and resume it"
    resumed = trial.fit(words, resume=True, **settings)
    expect_same_runs(
        whole,
        resumed,
        words,
        "what the run that never stopped gives: what changes in training is kept in registered "
        "parameters and buffers",
    )


def _kill(trial: TaskTrial, step: int, **settings: Any) -> None:
    words = "to train until killed"
    try:
        trial.fit(words, witness=RunRecorder(stop_at=step), **settings)
    except Killed:
        return
    raise Fault(words, f"a run that ended before step {step}", "as many steps as another run took")


RESUMING_CHECKS = (a_killed_run_resumes_exactly,)

"""Check that a killed run, once resumed, ends as one that was never interrupted."""

from __future__ import annotations

from typing import Any

from visiongraft.testing.report import Checks, Fault
from visiongraft.testing.tasks.reproducing import expect_same_runs
from visiongraft.testing.tasks.runs import Killed, RunRecorder
from visiongraft.testing.tasks.trial import TaskTrial

check = Checks(TaskTrial.of)


@check("task.Task.build_loss")
def a_killed_run_resumes_exactly(trial: TaskTrial) -> None:
    """A run that is killed and resumed ends bit-identical to one that was never interrupted."""
    whole = trial.short("run")
    settings = trial.short_settings("killed run")
    steps = len(whole.losses)
    # With two phases this is the first step of the second, before its checkpoint is saved; the run
    # is killed again one step later, in the middle of an epoch.
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
        "the results of the run that was never interrupted: all state must be kept in registered "
        "parameters and buffers",
    )


def _kill(trial: TaskTrial, step: int, **settings: Any) -> None:
    words = "to train until killed"
    try:
        trial.fit(words, witness=RunRecorder(stop_at=step), **settings)
    except Killed:
        return
    raise Fault(words, f"a run that ended before step {step}", "as many steps as an equal run")


RESUMING_CHECKS = tuple(check)

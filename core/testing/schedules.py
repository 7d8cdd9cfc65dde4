"""Checks of a schedule: its phases, and runs that follow it."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from visiongraft.freezing import trainable_stages
from visiongraft.schedules import Phase, Schedule, find_schedule
from visiongraft.testing.report import Check, checks_of, expect, require, trying
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.task_training import a_killed_run_resumes_exactly, expect_frozen
from visiongraft.testing.trial import NORMALISED, TaskTrial

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4", "stage5")
EPOCHS = (1, 2, 3, 5, 12)


class ScheduleTrial:
    """One schedule under trial.

    Args:
        what: A schedule, or the name of an installed one.
    """

    def __init__(self, what: str | Schedule) -> None:
        self.schedule = find_schedule(what)

    @classmethod
    def of(cls, subject: Any) -> ScheduleTrial:
        """Give the trial itself, or a new one."""
        return subject if isinstance(subject, ScheduleTrial) else cls(subject)

    @cached_property
    def specimen(self) -> TaskTrial:
        """A small sound task whose short runs follow the schedule."""
        return TaskTrial(Specimen(), backbone=NORMALISED, schedule=self.schedule)

    def phases(self, stages: tuple[str, ...], epochs: int) -> list[Phase]:
        """Run through the schedule as the engine does, with results that get better."""
        found: list[Phase] = []
        history: list[dict[str, Any]] = []
        plan = self.schedule.phases(stages, epochs)
        try:
            phase = next(plan)
            while True:
                expect(
                    isinstance(phase, Phase), "to ask for the next phase", repr(phase), "a Phase"
                )
                found.append(phase)
                if len(found) > epochs:
                    return found  # enough to be refused
                history += [
                    _record(phase, len(found) - 1, len(history) + i) for i in range(phase.epochs)
                ]
                phase = plan.send(list(history))
        except StopIteration:
            return found


check = checks_of(ScheduleTrial.of)


@check("schedules.Schedule")
def options_survive_json(trial: ScheduleTrial) -> None:
    """The schedule's name and options can be written as JSON, as a run's config does."""
    with trying("to write the schedule as JSON"):
        written = json.loads(json.dumps(trial.schedule.to_json()))
    expect(
        isinstance(written["name"], str) and bool(written["name"]),
        "to write the schedule as JSON",
        written,
        "a name",
    )


@check("schedules.Phase")
def phases_fill_the_epochs(trial: ScheduleTrial) -> None:
    """On backbones of any number of stages the phases train known stages for at most the epochs."""
    for count in range(1, len(STAGES) + 1):
        for epochs in EPOCHS:
            words = f"to plan {epochs} epochs on {count} stages"
            with trying(words, "phases"):
                phases = trial.phases(STAGES[:count], epochs)
            total = sum(phase.epochs for phase in phases)
            expect(1 <= total <= epochs, words, f"{total} epochs in all", f"1 to {epochs}")
            for phase in phases:
                with trying(f"{words}, and train {phase.trainable!r}", "a stage, 'head' or 'all'"):
                    trainable_stages(STAGES[:count], phase.trainable)


@check("schedules.Schedule.phases")
def plans_repeat(trial: ScheduleTrial) -> None:
    """Equal histories give equal phases, so that a resumed run goes on as planned."""
    one, other = trial.phases(STAGES, 6), trial.phases(STAGES, 6)
    expect(one == other, "to plan twice with equal results", other, f"the same phases: {one}")


@check("freezing.Receipt")
def frozen_stays_frozen(trial: ScheduleTrial) -> None:
    """A run by the schedule leaves alone what it freezes."""
    expect_frozen(trial.specimen, trial.schedule)


@check("schedules.Schedule.phases")
def a_killed_run_resumes(trial: ScheduleTrial) -> None:
    """A run by the schedule that is killed and resumed ends as one that never stopped."""
    a_killed_run_resumes_exactly.run(trial.specimen)


SCHEDULE_CHECKS: tuple[Check[Any], ...] = (
    options_survive_json,
    phases_fill_the_epochs,
    plans_repeat,
    frozen_stays_frozen,
    a_killed_run_resumes,
)


def check_schedule(what: str | Schedule) -> None:
    """Try a schedule on everything that visiongraft asks of one.

    Args:
        what: The schedule, or the name of an installed one, with or without options.

    Raises:
        CheckError: A check failed.
    """
    require(ScheduleTrial.of(what), SCHEDULE_CHECKS)


def _record(phase: Phase, index: int, epoch: int) -> dict[str, Any]:
    value = {"mean_error": 1 / (epoch + 1)}
    return {
        "epoch": epoch,
        "phase": index,
        "trainable": phase.trainable,
        "learning_rate": phase.learning_rate,
        "replayed": False,
        "train": {"loss": 1 / (epoch + 1)},
        "validation": value,
        "best": True,
    }

"""Checks of a schedule: its phases, and runs with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any

from visiongraft.errors import OptionError, ScheduleError
from visiongraft.lookup.methods import find_schedule
from visiongraft.schedules import Phase, Schedule
from visiongraft.testing.report import Check, Checks, expect, require, trying
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.tasks.freezing import expect_frozen
from visiongraft.testing.tasks.resuming import a_killed_run_resumes_exactly
from visiongraft.testing.tasks.trial import NORMALIZED, TaskTrial
from visiongraft.testing.trials import Trial, is_text
from visiongraft.training.trainable import trainable_stages
from visiongraft.tuning.plans import expected_record

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4", "stage5")
EPOCHS = (1, 2, 3, 5, 12)


class ScheduleTrial(Trial):
    """A schedule under trial.

    Args:
        what: A schedule, or the name of an installed one.
        adapters: Adapters of its runs, for a schedule that selects their parameters.
    """

    def __init__(self, what: str | Schedule, adapters: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.schedule, self.adapters = find_schedule(what), list(adapters)

    @cached_property
    def specimen(self) -> TaskTrial:
        """A small correct task whose short runs use the schedule."""
        return TaskTrial(
            Specimen(), backbone=NORMALIZED, schedule=self.schedule, adapters=self.adapters
        )

    def plan(self, stages: tuple[str, ...], epochs: int, better: bool = True) -> list[Phase] | None:
        """Return the phases, or ``None`` if the schedule rejects its options for these stages and epochs."""
        try:
            if self.schedule.options:
                next(self.schedule.phases(stages, epochs), None)
        except (OptionError, ScheduleError):
            return None
        return self.phases(stages, epochs, better)

    def phases(self, stages: tuple[str, ...], epochs: int, better: bool = True) -> list[Phase]:
        """Run the schedule as the engine does, with results that improve or get worse."""
        found: list[Phase] = []
        history: list[dict[str, Any]] = []
        plan = self.schedule.phases(stages, epochs)
        try:
            phase = next(plan)
            while True:
                kept = isinstance(phase, Phase)
                expect(kept, "to ask for the next phase", repr(phase), "a Phase")
                found.append(phase)
                if len(found) > epochs:
                    return found  # too many already
                history += [
                    _record(phase, len(found) - 1, len(history) + i, better)
                    for i in range(phase.epochs)
                ]
                phase = plan.send(list(history))
        except StopIteration:
            return found


check = Checks(ScheduleTrial.of)


@check("schedules.Schedule")
def options_survive_json(trial: ScheduleTrial) -> None:
    """The schedule's name and options survive JSON, and yield the same phases afterwards."""
    with trying("to write the schedule as JSON") as writing:
        written = json.loads(json.dumps(trial.schedule.to_json(), allow_nan=False))
    writing.expect(is_text(written["name"]), written, "a name")
    if not trial.schedule.options:
        return
    again = ScheduleTrial(replace(trial.schedule, options=written["options"]))
    for epochs in EPOCHS:
        words = (
            f"to plan {epochs} epochs with options {written['options']} as a run's config has them"
        )
        with trying(words, "phases") as planning:
            one, other = trial.plan(STAGES, epochs), again.plan(STAGES, epochs)
        planning.expect(one == other, other, f"the phases of {trial.schedule.options}: {one}")


@check("schedules.Phase")
def phases_fill_the_epochs(trial: ScheduleTrial) -> None:
    """For any number of stages, the phases train existing stages and do not exceed the epochs."""
    planned = 0
    for count, epochs, better in product(range(1, len(STAGES) + 1), EPOCHS, (True, False)):
        results = "better" if better else "worse"
        words = f"to plan {epochs} epochs on {count} stages with results that get {results}"
        with trying(words, "phases") as planning:
            phases = trial.plan(STAGES[:count], epochs, better)
        if phases is None:
            continue
        planned += 1
        total = sum(phase.epochs for phase in phases)
        planning.expect(1 <= total <= epochs, f"{total} epochs in total", f"1 to {epochs}")
        for phase in phases:
            if isinstance(phase.trainable, tuple):  # may name what some networks have only
                continue
            with trying(f"{words}, and train {phase.trainable!r}", "a stage, 'head' or 'all'"):
                trainable_stages(STAGES[:count], phase.trainable)
    words = f"to plan {', '.join(map(str, EPOCHS))} epochs on 1 to {len(STAGES)} stages"
    got = f"only errors with {trial.schedule.options}"
    expect(planned > 0, words, got, "phases for some of them")


@check("schedules.Schedule.phases")
def plans_repeat(trial: ScheduleTrial) -> None:
    """Equal histories yield equal phases, as resumed runs require."""
    for better in (True, False):
        one, other = (trial.plan(STAGES, 6, better) for _ in range(2))
        expect(one == other, "to plan twice with equal results", other, f"the same phases: {one}")


@check("training.freezing.Receipt")
def frozen_stays_frozen(trial: ScheduleTrial) -> None:
    """Frozen tensors stay bit-identical in a run with the schedule."""
    # With a folder, so that the run writes its phases as JSON.
    expect_frozen(trial.specimen, trial.schedule, out=trial.folder("frozen") / "run")


@check("schedules.Schedule.phases")
def a_killed_run_resumes(trial: ScheduleTrial) -> None:
    """A run with the schedule that is killed and resumed ends as if it was never interrupted."""
    a_killed_run_resumes_exactly.run(trial.specimen)


SCHEDULE_CHECKS: tuple[Check[Any], ...] = tuple(check)


def check_schedule(what: str | Schedule, adapters: Sequence[str] = ()) -> None:
    """Check everything that visiongraft requires of a schedule.

    Args:
        what: The schedule, or the name of an installed one, with or without options.
        adapters: Adapters of its runs, for a schedule that selects their parameters.

    Raises:
        CheckError: A check failed.
    """
    require(ScheduleTrial(what, adapters), SCHEDULE_CHECKS)


def _record(phase: Phase, index: int, epoch: int, better: bool) -> dict[str, Any]:
    value = 1 / (epoch + 1) if better else 2 - 1 / (epoch + 1)
    record = expected_record(
        phase,
        index,
        epoch,
        loss=value,
        validation={"mean_error": value},
        parts=STAGES,
        best=better or epoch == 0,
    )
    return {**record, "train": {"loss": value, "squared_error": value}}

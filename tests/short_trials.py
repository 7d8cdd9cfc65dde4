"""Trials for the checks of the conformance kit that need a trained model, but none that has learned."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from visiongraft.task import Task
from visiongraft.testing import TaskTrial
from visiongraft.testing.tasks.export import EXPORT_CHECKS
from visiongraft.testing.tasks.runs import Trained
from visiongraft.testing.tasks.saving import SAVING_CHECKS
from visiongraft.testing.tasks.trial import overfit

SHORT = {check.name for check in (*SAVING_CHECKS, *EXPORT_CHECKS)} | {
    "compare_sees_differences",
    "exported_files_are_measured_alike",
}


class ShortTrial(TaskTrial):
    """A task under trial whose model is trained for one epoch, where the kit trains many."""

    def trained(self) -> Trained:
        return self.once("trained", self._train_once)

    def _train_once(self) -> Trained:
        out = self.folder("trained") / "run"
        return self.fit("to train everything for an epoch", schedule=overfit, epochs=1, out=out)


def trial_for(task: Task | type[Task], checks: Collection[str], **options: Any) -> TaskTrial:
    """Make the trial that is enough for checks of these names."""
    kind = ShortTrial if set(checks) <= SHORT else TaskTrial
    return kind(task, **options)

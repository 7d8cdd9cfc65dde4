"""Checks that frozen tensors stay bit-identical."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visiongraft.hookspecs import hookimpl
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Schedule
from visiongraft.testing.report import Checks, NotTried, expect
from visiongraft.testing.tasks.runs import RunRecorder
from visiongraft.testing.tasks.trial import TaskTrial
from visiongraft.training.freezing import frozen_tensors

check = Checks(TaskTrial.of)


@check("training.freezing.Receipt")
def frozen_stays_frozen(trial: TaskTrial) -> None:
    """Under every built-in schedule, frozen tensors stay bit-identical, batch norm statistics included."""
    own = [r for r in plugins().records if r.distribution == "visiongraft"]
    names = {name for record in own for name in record.provides.get("schedule", ())}
    names &= plugins().schedules().keys()
    if not names:
        raise NotTried("the built-in schedules are not installed")
    for name in sorted(names):
        expect_frozen(trial, name)


def expect_frozen(trial: TaskTrial, schedule: str | Schedule, **more: Any) -> None:
    """Raise a fault unless all frozen tensors are unchanged after a run with a schedule."""
    watch = FrozenWatch()
    name = schedule if isinstance(schedule, str) else schedule.name
    words = f"to train by schedule {name!r} on backbone {trial.normalized}"
    settings: dict[str, Any] = {"backbone": trial.normalized, "schedule": schedule, "epochs": 2}
    trial.fit(words, witness=watch, **settings, **more)
    got = f"other values in {', '.join(watch.changed[:3])}"
    expect(not watch.changed, words, got, "unchanged frozen tensors")


class FrozenWatch(RunRecorder):
    """Copies the frozen tensors of each phase and compares them at its end, where receipts use hashes."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[str, Tensor] = {}
        self.changed: list[str] = []

    @hookimpl
    def phase_started(self, run: Any) -> None:
        """Copy the frozen tensors."""
        self.copies = {n: t.clone() for n, t in frozen_tensors(run.network).items()}

    @hookimpl
    def phase_ended(self, run: Any) -> None:
        """Compare them with the copies."""
        network = run.network
        now: dict[str, Tensor] = {
            **dict(network.named_parameters()),
            **dict(network.named_buffers()),
        }
        self.changed += [n for n, t in self.copies.items() if not torch.equal(t, now[n])]


FREEZING_CHECKS = tuple(check)

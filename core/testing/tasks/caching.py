"""Check that training on cached features is equivalent to training on images."""

from __future__ import annotations

import math
from typing import Any

from visiongraft.errors import ReplayError
from visiongraft.task import Task
from visiongraft.testing.report import Checks, Fault, NotTried, expect
from visiongraft.testing.tasks.trial import TaskTrial

check = Checks(TaskTrial.of)


@check("task.Task.build_head")
def replay_changes_nothing(trial: TaskTrial) -> None:
    """Training on cached features equals training on images."""
    settings: dict[str, Any] = {"schedule": "linear_probe", "epochs": 3}
    kind = type(trial.task)
    try:
        played = trial.fit("to train a head with replay", replay=True, **settings)
    except Fault as fault:
        own = kind.inference_step is not Task.inference_step
        if own and isinstance(fault.__cause__, ReplayError):
            raise NotTried(f"{kind.__name__}.inference_step: {fault.__cause__}") from None
        raise
    plain = trial.fit("to train a head without replay", **settings)
    expect(
        all(record["replayed"] for record in played.run.history),
        "to train a head with replay",
        "no replay",
        "replay: the head uses features only, and does not modify them",
    )
    words = "to train a head with and without replay"
    for one, other in zip(plain.losses, played.losses, strict=True):
        expect(
            math.isclose(one["loss"], other["loss"], rel_tol=1e-3, abs_tol=1e-4),
            words,
            f"losses {one['loss']:.6g} and {other['loss']:.6g}",
            "equal losses",
        )


CACHING_CHECKS = tuple(check)

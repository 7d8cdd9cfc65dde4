"""Check that training on cached features is equivalent to training on images."""

from __future__ import annotations

from typing import Any

from visiongraft.errors import ReplayError
from visiongraft.task import Task
from visiongraft.testing.report import Checks, Fault, NotTried, expect
from visiongraft.testing.tasks.runs import expect_near_losses
from visiongraft.testing.tasks.trial import TaskTrial

check = Checks(TaskTrial.of)


@check("task.Task.build_head")
def replay_changes_nothing(trial: TaskTrial) -> None:
    """Training on cached features equals training on images."""
    settings: dict[str, Any] = {"schedule": "linear_probe", "epochs": 3}
    kind, words = type(trial.task), "to train a head with replay"
    try:
        played = trial.fit(words, replay=True, **settings)
    except Fault as fault:
        own = kind.inference_step is not Task.inference_step
        if own and isinstance(fault.__cause__, ReplayError):
            raise NotTried(f"{kind.__name__}.inference_step: {fault.__cause__}") from None
        raise
    plain = trial.fit("to train a head without replay", **settings)
    replayed = all(record["replayed"] for record in played.run.history)
    expected = "replay: the head uses features only, and does not modify them"
    expect(replayed, words, "no replay", expected)
    words = "to train a head with and without replay"
    for one, other in zip(plain.losses, played.losses, strict=True):
        expect_near_losses(one["loss"], other["loss"], 1e-3, words, "equal losses")


CACHING_CHECKS = tuple(check)

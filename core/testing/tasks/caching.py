"""Check that training on cached features is equivalent to training on images."""

from __future__ import annotations

from typing import Any

from visiongraft.caching.plan import READS_IMAGES
from visiongraft.errors import ReplayError
from visiongraft.task import Task
from visiongraft.testing.report import Checks, Fault, NotTried, expect
from visiongraft.testing.tasks.runs import Trained, expect_near_losses
from visiongraft.testing.tasks.trial import TaskTrial

check = Checks(TaskTrial.of)


@check("task.Task.build_head")
def replay_changes_nothing(trial: TaskTrial) -> None:
    """Training on cached features equals training on images."""
    settings: dict[str, Any] = {"schedule": "linear_probe", "epochs": 3}
    words = "to train a head with replay"
    plain = trial.fit("to train a head without replay", **settings)
    try:
        played = trial.fit(words, replay=True, **settings)
    except Fault as fault:
        reason = _legitimate(trial.task, fault.__cause__)
        if not reason:
            raise
        left = trial.fit("to train a head with replay left to the core", replay="auto", **settings)
        _expect_equal(plain, left, "to train a head with replay left to the core and without")
        raise NotTried(reason) from None
    replayed = all(record["replayed"] for record in played.run.history)
    expected = "replay: the head uses features only, and does not modify them"
    expect(replayed, words, "no replay", expected)
    _expect_equal(plain, played, "to train a head with and without replay")


def _legitimate(task: Task, error: BaseException | None) -> str:
    """Return why a task cannot be trained on cached features, if that is its right."""
    kind = type(task)
    if not isinstance(error, ReplayError):
        return ""
    if task.streams:
        return f"{kind.__name__}.streams: {error}"
    if kind.inference_step is not Task.inference_step:
        return f"{kind.__name__}.inference_step: {error}"
    if READS_IMAGES in str(error) and kind.training_step is not Task.training_step:
        return f"{kind.__name__}.training_step: {error}"
    return ""


def _expect_equal(plain: Trained, other: Trained, words: str) -> None:
    for one, two in zip(plain.losses, other.losses, strict=True):
        expect_near_losses(one["loss"], two["loss"], 1e-3, words, "equal losses")


CACHING_CHECKS = tuple(check)

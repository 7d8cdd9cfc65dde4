"""The phases that a schedule is going to yield, before there are results to decide them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visiongraft.errors import OptionError
from visiongraft.schedules import History, Phase, Schedule
from visiongraft.task import Task
from visiongraft.training.run import Run
from visiongraft.training.trainable import apply_phase
from visiongraft.training.transfer_losses import TransferLoss


def planned_phases(
    schedule: Schedule, stages: Sequence[str], epochs: int, task: type[Task] | Task
) -> list[Phase]:
    """Return the phases of a schedule if results improve in every epoch.

    Args:
        schedule: The schedule.
        stages: The stages of the backbone.
        epochs: Epochs in all phases together.
        task: Names the headline metric of the history.

    Returns:
        The phases, at least one.

    Raises:
        ScheduleError: The schedule does not fit these stages and epochs.
    """
    found: list[Phase] = []
    history: History = []
    phases = schedule.phases(stages, epochs)
    try:
        phase = next(phases)
        while True:
            found.append(phase)
            for _ in range(phase.epochs):
                value = 1 / (len(history) + 1)
                better = value if task.better == "lower" else 1 - value
                history.append(
                    expected_record(
                        phase,
                        len(found) - 1,
                        len(history),
                        loss=value,
                        validation={task.headline: better},
                        parts=stages,
                    )
                )
            phase = phases.send(list(history))
    except StopIteration:
        return found


def refuse_idle_losses(run: Run) -> None:
    """Refuse transfer losses that can do nothing in any phase of the schedule.

    Args:
        run: The run before its first step; the phases freeze and unfreeze its network.

    Raises:
        OptionError: There is such a loss.
    """
    network = run.network
    made = {} if network.transfer is None else network.transfer.named_losses
    losses = {n: loss for n, loss in made.items() if type(loss).idle is not TransferLoss.idle}
    if not losses:
        return
    reasons = {}
    for phase in planned_phases(
        run.schedule, network.backbone.stages, run.config.epochs, network.task
    ):
        apply_phase(network, phase)
        reasons = {name: loss.idle(network) for name, loss in losses.items()}
        losses = {name: losses[name] for name, reason in reasons.items() if reason}
    for name in losses:
        raise OptionError(f"transfer loss {name!r} {reasons[name]}")


def expected_record(
    phase: Phase,
    index: int,
    epoch: int,
    *,
    loss: float,
    validation: dict[str, float],
    parts: Sequence[str],
    best: bool = True,
) -> dict[str, Any]:
    """Return a record of an epoch, as schedules are sent them, that has not been run.

    Args:
        phase: The phase of the epoch.
        index: Its position in the schedule.
        epoch: The epoch, from 0.
        loss: Training loss.
        validation: Metrics.
        parts: Stages of the backbone.
        best: Whether the epoch was the one to keep so far.
    """
    return {
        "epoch": epoch,
        "phase": index,
        "trainable": phase.label,
        "learning_rate": phase.learning_rate,
        "norms": {part: {"weights": 1.0, "gradients": loss} for part in (*parts, "head")},
        "replayed": False,
        "train": {"loss": loss},
        "validation": validation,
        "best": best,
    }

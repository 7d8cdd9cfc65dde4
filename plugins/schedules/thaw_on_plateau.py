"""Unfreeze one more stage when the metric stops improving, as in the package finetuning-scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from visiongraft.errors import ScheduleError
from visiongraft.options import is_integer
from visiongraft.schedules import PROBE_RATE, TUNING_RATE, Phase, Phases, schedule


@schedule
def thaw_on_plateau(
    stages: Sequence[str],
    epochs: int,
    *,
    patience: int = 2,
    probe_learning_rate: float = PROBE_RATE,
    learning_rate: float = TUNING_RATE,
    layer_decay: float = 0.85,
    batch_norm: str = "frozen",
) -> Phases:
    """Train the head, then one more stage whenever ``patience`` epochs bring no improvement.

    A phase takes no more than its equal part of the remaining epochs, so that the first stage has its
    turn too; the last phase takes what is left, and ends the run when it stops improving. With fewer
    epochs than stages, several stages join at a time.
    """
    if not is_integer(patience, 1):
        raise ScheduleError(f"thaw_on_plateau(patience={patience!r}): expected a positive integer")
    steps = min(epochs - 1, len(stages))
    firsts = [stages[len(stages) - len(stages) * step // steps] for step in range(1, steps + 1)]
    phases = [Phase(epochs, "head", probe_learning_rate, augment=False, patience=patience)] + [
        Phase(epochs, first, learning_rate, layer_decay, batch_norm, patience=patience)
        for first in firsts
    ]
    done = 0
    for position, phase in enumerate(phases):
        length = -(-(epochs - done) // (len(phases) - position))
        history = yield replace(phase, epochs=length)
        done = len(history)

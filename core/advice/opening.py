"""``open_on_gain``: the schedule of ``schedule="auto"`` that decides between phases by what the history shows."""

from __future__ import annotations

from collections.abc import Sequence

from visiongraft.hookspecs import hookimpl
from visiongraft.schedules import (
    PROBE_RATE,
    TUNING_RATE,
    EndingPhases,
    History,
    Phase,
    Schedule,
    probe_length,
    schedule,
)

PARTS = 3  # a third of the stages are the last ones; a third of the epochs after the head tries each opening


@schedule
def open_on_gain(
    stages: Sequence[str],
    epochs: int,
    *,
    probe_epochs: int | None = None,
    probe_learning_rate: float = PROBE_RATE,
    learning_rate: float = TUNING_RATE,
    layer_decay: float = 0.85,
    batch_norm: str = "frozen",
) -> EndingPhases:
    """Train the head, try the last stages and then all stages, and go on only if either improved on the head.

    The last stages and all stages get a third of the epochs that the head leaves. If no epoch of either
    phase is the best so far, the run ends there; otherwise all stages train for the rest. With fewer than
    three epochs after the head, all stages train at once.
    """
    probe = probe_length("open_on_gain", probe_epochs, epochs)
    left = epochs - probe
    if probe:
        yield Phase(probe, "head", probe_learning_rate, augment=False)
    if left < PARTS or not probe:
        yield Phase(left, "all", learning_rate, layer_decay, batch_norm)
        return None
    trial, last = left // PARTS, stages[-max(1, len(stages) // PARTS)]
    history = yield Phase(trial, last, learning_rate, layer_decay, batch_norm)
    gained = _gained(history)
    reason = _describe("the last stages", gained)
    history = yield Phase(trial, "all", learning_rate, layer_decay, batch_norm, reason=reason)
    opened = _gained(history)
    if not (gained or opened):
        return "neither the last stages nor all stages improved on the head"
    reason = _describe("all stages", opened)
    yield Phase(left - 2 * trial, "all", learning_rate, layer_decay, batch_norm, reason=reason)
    return None


def _gained(history: History) -> bool:
    """Check whether an epoch of the last phase was the best so far."""
    return any(record["best"] for record in history if record["phase"] == history[-1]["phase"])


def _describe(what: str, gained: bool) -> str:
    return f"{what} {'improved' if gained else 'did not improve'} on what was best before"


@hookimpl
def register_schedules() -> list[Schedule]:
    """Provide the schedule."""
    return [open_on_gain]

"""``open_on_gain``: the schedule of ``schedule="auto"`` that decides between phases by what the history shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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

PARTS = 3  # a third of the stages are the last ones, which train for a third of the epochs after the head


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
    """Train the head, then the last stages, then all stages; stop early only if both openings bring nothing.

    The last stages train for a third of the epochs that the head leaves, and all stages for the rest. If no
    epoch of the last stages was the best so far, all stages have the same number of epochs to improve, and
    the run ends when they do not. With fewer than three epochs after the head, all stages train at once.
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
    whole = Phase(left - trial, "all", learning_rate, layer_decay, batch_norm)
    if _gained(history):
        yield replace(whole, reason="the last stages improved on the head")
        return None
    reason = f"the last stages did not improve on the head; all stages have {trial} epochs to do so"
    history = yield replace(whole, patience=trial, reason=reason)
    return (
        None if _gained(history) else "neither the last stages nor all stages improved on the head"
    )


def _gained(history: History) -> bool:
    """Check whether an epoch of the last phase was the best so far."""
    return any(record["best"] for record in history if record["phase"] == history[-1]["phase"])


@hookimpl
def register_schedules() -> list[Schedule]:
    """Provide the schedule."""
    return [open_on_gain]

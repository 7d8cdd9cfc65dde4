"""Surgical fine-tuning: one block of the backbone trains (Lee et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from visiongraft.errors import ScheduleError, near_matches
from visiongraft.schedules import (
    PROBE_RATE,
    TUNING_RATE,
    Phase,
    Phases,
    one_by_one,
    probe_length,
    schedule,
)


@schedule
def surgical(
    stages: Sequence[str],
    epochs: int,
    *,
    blocks: str | Sequence[str] | None = None,
    head: bool = True,
    probe_epochs: int | None = None,
    probe_learning_rate: float = PROBE_RATE,
    learning_rate: float = TUNING_RATE,
    batch_norm: str = "frozen",
) -> Phases:
    """Train the head first, then the head and some stages alone (Lee et al., 2023).

    ``blocks`` names these stages, by default the first one; with ``head=False``, for runs that continue with
    a model, they train alone from the beginning.
    """
    chosen = (blocks,) if isinstance(blocks, str) else tuple(blocks or stages[:1])
    for block in chosen:
        if block not in stages:
            raise ScheduleError(
                f"surgical(blocks={blocks!r}) names {block!r}, which is not a stage of this backbone"
                f"{near_matches(str(block), stages)}"
            )
    if not isinstance(head, bool):
        raise ScheduleError(f"surgical(head={head!r}): expected True or False")
    probe = probe_length("surgical", probe_epochs, epochs) if head else 0
    phases = [Phase(probe, "head", probe_learning_rate, augment=False)] if probe else []
    trainable = (*chosen, "head") if head else chosen
    phases.append(Phase(epochs - probe, trainable, learning_rate, batch_norm=batch_norm))
    yield from one_by_one(phases)

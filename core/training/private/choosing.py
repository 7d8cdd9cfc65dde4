"""Whether a run's steps are private, for the engine, which need not know more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from accelerate import Accelerator

from visiongraft.training.batches.sources import PhaseBatches
from visiongraft.training.optimizers import PhaseOptimizer
from visiongraft.training.private.accounting import asked_privacy, spent_epsilon
from visiongraft.training.private.steps import PrivateSteps
from visiongraft.training.run import Run
from visiongraft.training.steps import Steps


def make_steps(run: Run, accelerator: Accelerator) -> Steps:
    """Make the steps of a run, private ones if it asks for privacy."""
    return (Steps if run.config.privacy is None else PrivateSteps)(run, accelerator)


def private_phase(
    steps: Steps, optimizers: Sequence[PhaseOptimizer], batches: PhaseBatches
) -> AbstractContextManager[None]:
    """Prepare the private steps of a phase, within a block; other steps need nothing."""
    return steps.phase(optimizers, batches) if isinstance(steps, PrivateSteps) else nullcontext()


def privacy_of_epoch(run: Run) -> dict[str, Any]:
    """Return what the record of an epoch of a private run says about privacy."""
    privacy = asked_privacy(run)
    if privacy is None:
        return {}
    return {"privacy": {"epsilon": spent_epsilon(run), "delta": privacy.delta}}

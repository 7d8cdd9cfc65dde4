"""Which steps a run makes, private ones or those that weigh groups; for the engine, which need not know more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from accelerate import Accelerator

from visiongraft.training.batches.sources import PhaseBatches
from visiongraft.training.grouped.steps import GroupedSteps, warn_of_norms
from visiongraft.training.grouped.weights import groups_of_epoch
from visiongraft.training.optimizers import PhaseOptimizer
from visiongraft.training.private.accounting import asked_privacy, spent_epsilon
from visiongraft.training.private.steps import PrivateSteps
from visiongraft.training.run import Run
from visiongraft.training.steps import Steps


def make_steps(run: Run, accelerator: Accelerator) -> Steps:
    """Make the steps of a run: private ones if it asks for privacy, weighed ones if it begins with groups."""
    if run.config.privacy is not None:
        return PrivateSteps(run, accelerator)
    return (GroupedSteps if run.state.groups else Steps)(run, accelerator)


def prepared_phase(
    steps: Steps, optimizers: Sequence[PhaseOptimizer], batches: PhaseBatches
) -> AbstractContextManager[None]:
    """Prepare private steps for a phase, within a block, and warn where weighed ones do not fit; others need nothing."""
    if isinstance(steps, GroupedSteps):
        warn_of_norms(steps.run.network)
    return steps.phase(optimizers, batches) if isinstance(steps, PrivateSteps) else nullcontext()


def details_of_epoch(run: Run) -> dict[str, Any]:
    """Return what the record of an epoch says about privacy, or about groups."""
    privacy = asked_privacy(run)
    if privacy is None:
        return groups_of_epoch(run)
    return {"privacy": {"epsilon": spent_epsilon(run), "delta": privacy.delta}}

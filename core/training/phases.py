"""The phases of a run: what the schedule decides, and what must be ready before the first step of one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import nn

from visiongraft.errors import TrainingError
from visiongraft.schedules import Phase
from visiongraft.training.batches.loaders import ImageLoaders
from visiongraft.training.batches.sources import PhaseBatches, choose_batches
from visiongraft.training.freezing import check_moments, check_optimizers
from visiongraft.training.optimizers import PhaseOptimizer, build_optimizer
from visiongraft.training.private.refusals import freeze_norms
from visiongraft.training.run import Run
from visiongraft.training.trainable import apply_phase, parameter_groups, selected_parameters

log = logging.getLogger("visiongraft")


@dataclass(frozen=True)
class ReadyPhase:
    """What the steps of a phase need.

    Attributes:
        phase: The phase.
        model: The network, prepared for the processes of the run.
        optimizers: Its optimizers.
        batches: Where its batches come from.
    """

    phase: Phase
    model: nn.Module
    optimizers: Sequence[PhaseOptimizer]
    batches: PhaseBatches


def phases_of(run: Run) -> Iterator[tuple[int, Phase]]:
    """Yield the phases of a run with their positions, each decided by the history before it."""
    phases = run.schedule.phases(run.network.backbone.stages, run.config.epochs)
    index = 0
    phase: Phase | None = next(phases, None)
    while phase is not None:
        yield index, phase
        past = [r for r in run.history if r["phase"] <= index]
        index += 1
        try:
            phase = phases.send(past)
        except StopIteration as end:
            if end.value:
                log.info("the schedule ends: %s", end.value)
            phase = None


def set_up_phase(
    run: Run, index: int, phase: Phase, before: Sequence[torch.optim.Optimizer] = ()
) -> list[PhaseOptimizer]:
    """Freeze what a phase does not train, and make the optimizers of what it trains.

    Args:
        run: The run; its network is changed.
        index: Position of the phase in the schedule.
        phase: The phase.
        before: The optimizers of the phase before.

    Returns:
        The optimizers for which there is something to train.

    Raises:
        TrainingError: Nothing trains.
        ReceiptError: The optimizers do not hold what trains.
    """
    network = run.network
    apply_phase(network, phase)
    if run.config.privacy is not None:
        freeze_norms(network)
    if not any(p.requires_grad for p in network.parameters()):
        raise TrainingError(
            f"nothing trains in phase {index + 1}: {phase.label} has no trainable parameters"
        )
    made = list(_optimizers(run, phase, before))
    optimizers = [each.optimizer for each in made]
    where = f"at the start of phase {index + 1}"
    check_optimizers(network, optimizers, where)
    check_moments(before, optimizers, where)
    return made


@contextmanager
def ready_phase(
    run: Run,
    phase: Phase,
    made: Sequence[PhaseOptimizer],
    images: ImageLoaders,
    accelerator: Accelerator,
) -> Iterator[ReadyPhase]:
    """Make everything ready for the steps of a phase that was set up, within a block.

    Args:
        run: The run.
        phase: The phase.
        made: Its optimizers.
        images: The samples of the run.
        accelerator: Device, precision and processes.

    Yields:
        What steps need.
    """
    with ExitStack() as stack:
        batches, run.state.replayed = choose_batches(
            images,
            phase,
            stack,
            folder=run.scratch,
            processes=accelerator.num_processes,
            decided=run.state.replayed,
        )
        yield stack.enter_context(ready_steps(run, phase, made, batches, accelerator))


@contextmanager
def ready_steps(
    run: Run,
    phase: Phase,
    made: Sequence[PhaseOptimizer],
    batches: PhaseBatches,
    accelerator: Accelerator,
) -> Iterator[ReadyPhase]:
    """Prepare network and optimizers for the steps of a phase, within a block.

    Args:
        run: The run.
        phase: The phase.
        made: Its optimizers.
        batches: Where its batches come from.
        accelerator: Device, precision and processes.

    Yields:
        What steps need.
    """
    # Prepared for each phase, since processes hook the gradients of what trains now only.
    model = accelerator.prepare_model(run.network)
    optimizers = [
        replace(each, optimizer=accelerator.prepare_optimizer(each.optimizer)) for each in made
    ]
    yield ReadyPhase(phase, model, optimizers, batches)
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    accelerator.free_memory()


def _optimizers(
    run: Run, phase: Phase, before: Sequence[torch.optim.Optimizer]
) -> Iterator[PhaseOptimizer]:
    """Make those optimizers for which there is something to train in a phase."""
    for each in run.optimizers:
        asked = f"parts of optimizer {each.spec.name!r}"
        names = selected_parameters(run.network, each.spec.parts, asked)
        groups = parameter_groups(run.network, phase, run.config.weight_decay, names)
        for group in groups:
            group["lr"] = group["peak_lr"] = group["peak_lr"] * each.spec.rate
        if groups:
            yield PhaseOptimizer(each.spec, build_optimizer(each.factory, groups, before))

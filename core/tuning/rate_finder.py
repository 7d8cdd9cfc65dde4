"""``lr_find``: the learning-rate range test (Smith, 2017, "Cyclical learning rates")."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.progress import track
from torch import nn

from visiongraft.config import AUTO
from visiongraft.errors import OptionError, ScheduleError, VisiongraftError
from visiongraft.options import is_integer, is_number
from visiongraft.preparation.arguments import (
    completed_settings,
    new_settings,
    with_task_augmentation,
)
from visiongraft.preparation.building import check_streams, prepare_run
from visiongraft.preparation.datasets import Given
from visiongraft.preparation.starting import find_start
from visiongraft.registry.callbacks import listen
from visiongraft.schedules import Phase, Schedule
from visiongraft.seeds import random_state, restore_random_state
from visiongraft.system.interrupts import work_started
from visiongraft.system.terminal import make_console
from visiongraft.training.engine import Engine
from visiongraft.training.execution.devices import make_accelerator
from visiongraft.training.optimizers import set_learning_rate
from visiongraft.training.phases import phases_of, ready_phase, set_up_phase
from visiongraft.training.resuming.run_folder import scratch_folder
from visiongraft.training.run import Run
from visiongraft.training.steps import LossNotFiniteError
from visiongraft.training.weights.head_start import fit_schedule_to_head
from visiongraft.tuning.batch_finder import set_batch_size
from visiongraft.tuning.plans import planned_phases
from visiongraft.tuning.rates import RateSweep, has_diverged, rates_between
from visiongraft.tuning.rehearsal import endless_losses

log = logging.getLogger("visiongraft")

FEWEST_STEPS = 20


def lr_find(
    data: Any = None,
    *,
    phase: int = 1,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    **settings: Any,
) -> RateSweep:
    """Measure the loss at rising learning rates, and suggest rates to train with.

    One phase of the schedule is trained for a number of steps, each at a rate that is higher than the
    one before by a constant factor, until the loss diverges. Layer decay and other factors between
    rates stay as they are. Phases before it are trained first, as ``fit`` would. Nothing is kept: no
    run, no weights, and the random states of the process are put back.

    Args:
        data: As for ``fit``.
        phase: Phase of the schedule, from 1. With the schedule ``"lp_ft"`` the first one trains the
            head and the second one everything.
        lowest: The first learning rate.
        highest: The last learning rate.
        steps: Number of steps, at least 20.
        settings: Settings of ``fit``, such as ``task``, ``backbone``, ``schedule`` and ``batch_size``.

    Returns:
        Rates and losses, with two suggestions, ``valley`` and ``steepest``.

    Raises:
        VisiongraftError: An argument or the dataset is invalid.

    Examples:
        ``sweep = visiongraft.lr_find("flowers", task=MyTask(), schedule="full")``
    """
    _check_range(phase, lowest, highest, steps)
    refused = ("budget", "privacy", "metrics")
    given = with_task_augmentation(completed_settings(lr_find, data, settings, without=refused))
    if given["schedule"] == AUTO:
        raise OptionError(
            "schedule='auto' is chosen by fit; name the schedule that the rate is for"
        )
    rates = rates_between(lowest, highest, steps)
    with scratch_folder() as scratch, _unchanged_randomness():
        origin = find_start(given)
        config, task, schedule = new_settings(given, origin)
        check_streams(config, task)
        accelerator = make_accelerator(config)
        if accelerator.num_processes > 1:
            raise OptionError(
                f"lr_find runs in one process, not in {accelerator.num_processes}; start it without "
                "a launcher"
            )
        work_started()
        sources = Given(
            data,
            given["evaluate_on"] or {},
            given["streams"] or {},
            origin,
            given["backbone"] if isinstance(given["backbone"], nn.Module) else None,
            augment=given["augment"],
        )
        run, _ = prepare_run(sources, task, config, schedule, accelerator, None, scratch)
        fit_schedule_to_head(run)
        set_batch_size(run, given["batch_size"], accelerator)
        for line in run.warnings:
            log.warning("%s", line)
        phases = _planned(run, phase)
        if phase == 1:  # nothing is evaluated
            run = run.on(validation=run.training.subset([0]), evaluation={})
        engine = Engine(run, listen(()), accelerator)
        losses = _sweep_phase(engine, phase - 1, rates)
    how = rate_option(run, phase - 1, schedule)
    labels = tuple(each.label for each in phases)
    swept = phases[phase - 1]
    started = bool(run.state.head_start) and phase == 1
    return RateSweep(
        rates[: len(losses)],
        tuple(losses),
        phase,
        swept.label,
        how,
        labels,
        fitted=swept.trainable == "head" and (started or swept.refit_head),
    )


def _check_range(phase: Any, lowest: Any, highest: Any, steps: Any) -> None:
    if not is_integer(phase, 1):
        raise OptionError(f"phase={phase!r} is not an integer of at least 1")
    if not is_integer(steps, FEWEST_STEPS):
        raise OptionError(f"steps={steps!r} is not an integer of at least {FEWEST_STEPS}")
    if not (is_number(lowest) and is_number(highest) and 0 < lowest < highest):
        raise OptionError(
            f"lowest={lowest!r} and highest={highest!r} are not two learning rates, the first of "
            "them positive and lower"
        )


@contextmanager
def _unchanged_randomness() -> Iterator[None]:
    """Put the random states back at the end of a block."""
    states = random_state()
    try:
        yield
    finally:
        restore_random_state(*states)


def _planned(run: Run, number: int) -> list[Phase]:
    """Return the phases of the schedule as they are expected to be, if one, from 1, is among them."""
    stages, task = run.network.backbone.stages, run.network.task
    phases = planned_phases(run.schedule, stages, run.config.epochs, task)
    if number > len(phases):
        raise OptionError(
            f"phase={number}: schedule {run.schedule.name!r} has {len(phases)} "
            f"{'phase' if len(phases) == 1 else 'phases'} in {run.config.epochs} "
            f"{'epoch' if run.config.epochs == 1 else 'epochs'}"
        )
    return phases


def _sweep_phase(engine: Engine, index: int, rates: Sequence[float]) -> list[float]:
    """Train the phases before one, then sweep the learning rate in it."""
    engine.begin()
    for position, phase in phases_of(engine.run):
        if position == index:
            return sweep(engine, index, phase, rates)
        log.info("training phase %d first: %s", position + 1, phase.label)
        engine.run_phase(position, phase)
    raise ScheduleError(f"schedule {engine.run.schedule.name!r} ended before phase {index + 1}")


def sweep(engine: Engine, index: int, phase: Phase, rates: Sequence[float]) -> list[float]:
    """Train a phase, each step at the next learning rate, until the loss diverges.

    Args:
        engine: The engine, after the phases before.
        index: Position of the phase in the schedule.
        phase: The phase.
        rates: Learning rates of the head, one a step.

    Returns:
        The loss of each step.

    Raises:
        LossNotFiniteError: The first loss already is not finite.
    """
    losses: list[float] = []
    made = set_up_phase(engine.run, index, phase, engine.optimizers)
    passes = math.ceil(len(rates) / len(engine.steps.plan()))
    if phase.refit_head:
        engine.refit_head()
    several = replace(phase, epochs=max(passes, phase.epochs))  # as caching depends on them

    def set_rates(*_: int) -> None:
        for each in made:
            set_learning_rate(each.optimizer, rates[len(losses)] / phase.learning_rate)

    with ready_phase(engine.run, several, made, engine.images, engine.accelerator) as ready:
        if index == 0 and not phase.refit_head:
            engine.start_head(ready.batches)
        steps = track(
            endless_losses(engine, ready, set_rates),
            f"phase {index + 1}: {phase.label}",
            total=len(rates),
            console=make_console(sys.stderr),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        try:
            for loss in steps:
                losses.append(loss)
                if len(losses) == len(rates) or has_diverged(losses):
                    break
        except LossNotFiniteError:
            if not losses:
                raise
    return losses


def rate_option(run: Run, index: int, written: Schedule) -> str:
    """Find out which option of the schedule of a run sets the learning rate of a phase.

    Args:
        run: The run.
        index: Position of the phase.
        written: The schedule without the options that follow from the start of the head: ``fit`` sets them again.

    Returns:
        The schedule as users write it, with ``{rate}`` as the value of that option; empty if there is
        none.
    """
    schedule, stages, epochs = run.schedule, run.network.backbone.stages, run.config.epochs
    trial = 0.123456789
    for name in schedule.option_names:
        try:
            phases = planned_phases(schedule(**{name: trial}), stages, epochs, run.network.task)
            found = phases[index].learning_rate == trial
        except (VisiongraftError, IndexError, TypeError, ValueError):  # not a rate
            continue
        if found:
            options = {**written.options, name: "{rate}"}
            values = (f"{n}={v if n == name else repr(v)}" for n, v in options.items())
            return f"{schedule.name}({', '.join(values)})"
    return ""

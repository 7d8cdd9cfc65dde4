"""``budget="10min"``: the number of epochs that fits into a time, by measuring a few steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from accelerate import Accelerator

from visiongraft.data.samples import Samples
from visiongraft.errors import OptionError, ScheduleError, VisiongraftError
from visiongraft.registry.callbacks import listen
from visiongraft.schedules import Phase
from visiongraft.system.durations import describe_duration
from visiongraft.training.batches.sources import foreseen, stored_rows
from visiongraft.training.engine import Engine
from visiongraft.training.freezing import FrozenSnapshot
from visiongraft.training.optimizers import set_learning_rate
from visiongraft.training.phases import ReadyPhase, ready_phase, set_up_phase
from visiongraft.training.resuming.checkpoint import RunState
from visiongraft.training.run import Run
from visiongraft.training.selection.criteria import VALIDATION
from visiongraft.training.transfer.preparing import prepare_losses
from visiongraft.training.weights.head_start import MOST_IMAGES, starts_head
from visiongraft.tuning.plans import planned_phases
from visiongraft.tuning.rehearsal import endless_losses, rehearsal

log = logging.getLogger("visiongraft")

WHAT = "the number of epochs of a budget"
FIRST_GUESS = 10
MOST_EPOCHS = 100
USED = 0.95  # fraction of the time that is planned; checkpoints and the like take the rest
STEPS, SECONDS = 8, 2.0  # timed steps of each kind of phase, fewer if they take longer
MEASURED = 0.02  # fraction of the budget that these steps may take, too


@dataclass(frozen=True)
class PhaseCost:
    """What a phase takes, in seconds.

    Attributes:
        start: Once: comparing frozen tensors, filling the feature cache, and freeing memory.
        epoch: Each epoch with its evaluation.
    """

    start: float
    epoch: float


@dataclass(frozen=True)
class BudgetPlan:
    """A number of epochs that was chosen by measuring.

    Attributes:
        budget: The time that the user gave, in seconds.
        once: Time that the run takes apart from its phases, so far and at its beginning, in seconds.
        phases: The phases, with what they take.
    """

    budget: float
    once: float
    phases: Sequence[tuple[Phase, PhaseCost]]

    @property
    def epochs(self) -> int:
        """Epochs in all phases together."""
        return sum(phase.epochs for phase, _ in self.phases)

    @property
    def seconds(self) -> float:
        """Time that the run is expected to take."""
        return self.once + sum(
            cost.start + phase.epochs * cost.epoch for phase, cost in self.phases
        )

    @property
    def fits(self) -> bool:
        """Whether the run is expected to end within the budget."""
        return self.seconds <= USED * self.budget

    def __str__(self) -> str:
        """Describe the plan in one line."""
        each = ", then ".join(
            f"{phase.epochs} of {describe_duration(cost.epoch)} ({phase.label})"
            for phase, cost in self.phases
        )
        most = ", the most that a budget plans" if self.epochs >= MOST_EPOCHS else ""
        return (
            f"budget {describe_duration(self.budget)}: {_epochs(self.epochs)} on this machine{most}: "
            f"{each}; about {describe_duration(self.seconds)} in total"
        )


def use_budget(run: Run, plan: BudgetPlan) -> None:
    """Train a run for the number of epochs that was chosen, and say so as it begins."""
    run.config = replace(run.config, epochs=plan.epochs)
    run.notes += (str(plan),)
    log.info("%s", plan)


def plan_epochs(run: Run, accelerator: Accelerator, started: float) -> BudgetPlan:
    """Choose the number of epochs of a run by trial steps, on a copy of its network.

    Args:
        run: The run, before its first step, with a budget; it is left as it was.
        accelerator: Device, precision and processes.
        started: When the run began, by ``time.monotonic``.

    Returns:
        The plan with the most epochs that fit, at most 100.

    Raises:
        OptionError: Not even one epoch fits.
    """
    budget = run.config.budget
    assert budget is not None
    with rehearsal(run, accelerator, WHAT) as copy:
        costs = Costs(copy, accelerator)
        return choose_epochs(budget, costs, started)


def choose_epochs(budget: float, costs: Costs, started: float) -> BudgetPlan:
    """Search for the most epochs that fit: their time is nearly linear, so guesses are quickly right.

    Args:
        budget: Seconds.
        costs: Measures phases on first use, which takes time itself.
        started: When the run began, by ``time.monotonic``.

    Raises:
        OptionError: Not even one epoch fits.
    """

    def plan(epochs: int) -> BudgetPlan:
        phases = costs.phases(epochs)
        return BudgetPlan(budget, time.monotonic() - started + costs.once, phases)

    found = plan(FIRST_GUESS)
    tried: set[int] = set()
    while found.epochs not in tried:
        tried.add(found.epochs)
        left = USED * budget - found.once
        guess = int(found.epochs * left / max(1e-9, found.seconds - found.once))
        found = plan(min(MOST_EPOCHS, max(1, guess)))
    while not found.fits and found.epochs > 1:
        found = plan(found.epochs - 1)
    if not found.fits:
        least = describe_duration(found.seconds / USED)
        raise OptionError(
            f"budget={describe_duration(budget)} is too short: one epoch takes "
            f"{describe_duration(found.seconds - found.once)} on this machine, and all before it "
            f"{describe_duration(found.once)}; the least is about {least}; or choose a smaller size, a "
            "smaller backbone, or schedule='linear_probe'"
        )
    while found.epochs < MOST_EPOCHS and (more := plan(found.epochs + 1)).fits:
        if more.epochs <= found.epochs:  # the schedule has an end of its own
            break
        found = more
    return found


@dataclass
class Costs:
    """What the phases of a run take, each kind of them measured on first use.

    Attributes:
        run: A copy of the run.
        accelerator: Device, precision and processes.
    """

    run: Run
    accelerator: Accelerator
    _preparing: float = 0.0
    _evaluating: float = 0.0  # before training
    _starting: float = 0.0  # the head
    _known: dict[Any, PhaseCost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._engine = Engine(self.run, listen(()), self.accelerator)
        self._steps = self._engine.steps.plan()
        started = time.perf_counter()
        prepare_losses(self._engine.images)
        self._preparing = time.perf_counter() - started

    @property
    def once(self) -> float:
        """Time that the run takes beside its phases, in seconds, as far as it is known."""
        return self._preparing + self._evaluating + self._starting

    def phases(self, epochs: int) -> list[tuple[Phase, PhaseCost]]:
        """Return the phases of the schedule for a number of epochs, with what they take."""
        run = self.run
        try:
            planned = planned_phases(
                run.schedule, run.network.backbone.stages, epochs, run.network.task
            )
        except ScheduleError as error:
            raise ScheduleError(f"the budget allows {_epochs(epochs)}, but {error}") from error
        return [(phase, self._cost(index, phase)) for index, phase in enumerate(planned)]

    def _cost(self, index: int, phase: Phase) -> PhaseCost:
        several = phase.epochs > 1  # a phase of a single epoch uses no feature cache
        kind = (phase.trainable, phase.batch_norm, phase.augment, several, phase.refit_head)
        if kind not in self._known:
            self._known[kind] = self._measure(index, phase)
        return self._known[kind]

    def _measure(self, index: int, phase: Phase) -> PhaseCost:
        images, network = self._engine.images, self.run.network
        made = set_up_phase(self.run, index, phase)
        started = time.perf_counter()
        FrozenSnapshot.take(network)
        proving = 2 * (time.perf_counter() - started)
        started = time.perf_counter()
        replayed, shared = foreseen(images, phase, folder=self.run.scratch)
        probing = time.perf_counter() - started
        part = self._part(replayed)
        small = Engine(part, listen(()), self.accelerator)
        started = time.perf_counter()
        with ready_phase(part, phase, made, small.images, self.accelerator) as ready:
            opening = time.perf_counter() - started
            limit = min(SECONDS, MEASURED * (self.run.config.budget or 0.0))
            step = _seconds_of_a_step(small, ready, limit)
            image = _seconds_of_an_image(small, ready, limit)
            started = time.perf_counter()
        closing = time.perf_counter() - started
        filling = 0.0
        if replayed and not shared:
            rows = sum(stored_rows(small.images, phase).values())
            filling = max(0.0, opening - probing) / rows * sum(stored_rows(images, phase).values())
        evaluation = image * _evaluated(self.run)
        if self.run.evaluation or self.run.config.start:  # evaluated before training, too
            self._evaluating = max(self._evaluating, evaluation)
        if index == 0 and starts_head(network.task, self.run.config):
            self._starting = image * min(MOST_IMAGES, len(self.run.training))
        fitting = image * min(MOST_IMAGES, len(self.run.training)) if phase.refit_head else 0.0
        return PhaseCost(
            proving + probing + filling + fitting + closing, len(self._steps) * step + evaluation
        )

    def _part(self, replayed: bool) -> Run:
        """Return a run on the images of a few steps, as the sampler of the task chose them."""
        run = self.run
        chosen = {i for step in self._steps[: STEPS + 1] for batch in step for i in batch[0]}
        few = run.on(
            training=run.training.subset(sorted(chosen)),
            validation=_first(run.validation, 2 * run.config.batch_size),
            evaluation={},
        )
        config = replace(run.config, validation=run.config.held_out)  # few images make no folds
        part = replace(few, config=config, state=RunState(replayed=replayed))
        with suppress(VisiongraftError):  # a sampler that these images are too few for
            Engine(part, listen(()), self.accelerator).steps.plan()
            return part
        return replace(part, training=run.training)


def _seconds_of_a_step(engine: Engine, ready: ReadyPhase, limit: float) -> float:
    """Measure the mean time of steps, with loading; the first one, which allocates memory, is left out."""

    def set_rates(*_: int) -> None:
        for each in ready.optimizers:
            set_learning_rate(each.optimizer, 1e-3)  # the loss must not diverge

    times: list[float] = []
    started = time.perf_counter()
    for _ in endless_losses(engine, ready, set_rates):
        now = time.perf_counter()
        times.append(now - started)
        started = now
        if len(times) > STEPS or (len(times) > 1 and sum(times[1:]) > limit):
            break
    return fmean(times[1:])


def _seconds_of_an_image(engine: Engine, ready: ReadyPhase, limit: float) -> float:
    """Measure the time of evaluating an image; the first evaluation may import what metrics need."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        engine.measuring.evaluate(VALIDATION, ready.batches)
        times.append(time.perf_counter() - started)
        if times[0] > 10 * limit:  # imports are little of it
            break
    return times[-1] / len(engine.images.validation)


def _evaluated(run: Run) -> int:
    """Return the number of images that are evaluated after each epoch."""
    return len(run.validation) + sum(map(len, run.evaluation.values()))


def _first(samples: Samples, count: int) -> Samples:
    return samples.subset(range(min(count, len(samples))))


def _epochs(count: int) -> str:
    return f"{count} {'epoch' if count == 1 else 'epochs'}"

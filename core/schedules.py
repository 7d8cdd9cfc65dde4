"""Schedules: which stages train, when, and how fast.

A schedule is a generator of phases. After each phase it is sent the history so far, so that it can
decide the next phase from what happened.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from visiongraft.errors import ScheduleError, near_matches
from visiongraft.hookspecs import hookimpl
from visiongraft.options import is_integer, is_number, refuse_unknown

History = list[dict[str, Any]]
Phases = Generator["Phase", History, None]
EndingPhases = Generator["Phase", History, str | None]  # returns why it ends early, if it does

# Peak rates for AdamW at the batch sizes that are chosen by the number of images. A random head bears a high
# rate; a head alone that starts from a good classifier would be undone by it, and a pretrained backbone forgets
# what it knows: 5e-4 with batches of 32 lost up to 16 points on small datasets, 3e-4 on none.
PROBE_RATE = 3e-3
STARTED_RATE = 3e-4
TUNING_RATE = 3e-4

# A head that is right already leaves little to learn from, and steps that cannot mend much can still spoil
# features: see "Defaults" in docs/benchmarks.md. The rate is the whole one from so many errors of its start on.
FULL_RATE_ERRORS = 0.2  # of the images
FULL_RATE_COUNT = 60
LEAST_SHARE = 0.25

# Adapters start from zero beside weights that stay as they are: at the rate of fine-tuning they have hardly
# moved at the end of a run.
ADAPTER_OPTIONS: Mapping[str, Any] = {"learning_rate": 2e-3, "layer_decay": 1.0}

SHAPES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of trainable stages.

    Attributes:
        epochs: Passes over the training data, at least 1.
        trainable: ``"head"``, ``"all"``, or the name of a stage: that stage, all deeper ones and
            the head. A tuple selects exactly what it names: stages, ``"backbone"``, ``"head"``,
            ``"loss"``, adapters, modules such as ``"head.2"``, and patterns over the names of
            parameters such as ``"*.bias"``.
        learning_rate: Peak learning rate of the head.
        layer_decay: Factor in (0, 1] on the learning rate for each stage further from the head.
        batch_norm: In trainable stages, ``"frozen"`` keeps running statistics fixed and uses them
            to normalize; ``"train"`` updates them. Scale and shift train in both cases.
        augment: Whether training images are augmented at random.
        refit_head: Whether the phase begins with a head that the task fits anew, in closed form, to the features
            of the training images without augmentation. Only for tasks that can, see ``Task.refits_head``.
        rates: Further factors on the learning rate of what a name selects, as in a tuple of
            ``trainable``. Factors of several names multiply.
        shape: What follows the linear warm-up of the learning rate: ``"cosine"`` or ``"linear"``
            down to zero, or ``"constant"``.
        patience: Epochs without improvement after which the phase ends; ``None`` for the setting
            ``patience`` of the run.
        reason: Why it follows, for the console and the record of each epoch; empty if the history did not
            decide.

    Examples:
        >>> Phase(epochs=3, trainable="head", learning_rate=1e-3).layer_decay
        1.0
        >>> biases_only = Phase(epochs=3, trainable=("*.bias", "head"), rates={"head": 10.0})
    """

    epochs: int
    trainable: str | tuple[str, ...] = "all"
    learning_rate: float = 1e-3
    layer_decay: float = 1.0
    batch_norm: str = "frozen"
    augment: bool = True
    refit_head: bool = False
    rates: Mapping[str, float] = field(default_factory=dict)
    shape: str = "cosine"
    patience: int | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise ScheduleError(f"epochs={self.epochs!r} of a phase is not a positive integer")
        if not (isinstance(self.learning_rate, Real) and self.learning_rate > 0):
            raise ScheduleError(f"learning_rate={self.learning_rate!r} of a phase is not positive")
        if not (isinstance(self.layer_decay, Real) and 0 < self.layer_decay <= 1):
            raise ScheduleError(f"layer_decay={self.layer_decay!r} of a phase is not in (0, 1]")
        if self.batch_norm not in ("frozen", "train"):
            raise ScheduleError(f"batch_norm={self.batch_norm!r} is neither 'frozen' nor 'train'")
        if isinstance(self.trainable, list):  # as JSON has it
            object.__setattr__(self, "trainable", tuple(self.trainable))
        parts = self.trainable if isinstance(self.trainable, tuple) else (self.trainable,)
        if not parts or not all(isinstance(part, str) and part for part in parts):
            raise ScheduleError(
                f"trainable={self.trainable!r} of a phase is neither a name nor a tuple of names"
            )
        for part, factor in self.rates.items():
            if not (is_number(factor) and factor > 0):
                raise ScheduleError(f"rates={{{part!r}: {factor!r}}} of a phase is not positive")
        if self.shape not in SHAPES:
            raise ScheduleError(
                f"shape={self.shape!r} is unknown{near_matches(self.shape, SHAPES)}"
            )
        if self.patience is not None and not is_integer(self.patience, 1):
            raise ScheduleError(f"patience={self.patience!r} of a phase is not a positive integer")

    @property
    def label(self) -> str:
        """What it trains, as one string."""
        return self.trainable if isinstance(self.trainable, str) else ", ".join(self.trainable)


@dataclass(frozen=True)
class Schedule:
    """A named generator of phases together with its options.

    Attributes:
        name: How users ask for it.
        generate: Called with the backbone's stages, the number of epochs, and the options.
        options: What the user set.

    Examples:
        >>> [p.trainable for p in lp_ft(probe_epochs=1).phases(("stem", "stage1"), 4)]
        ['head', 'all']
    """

    name: str
    generate: Callable[..., EndingPhases]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def option_names(self) -> list[str]:
        """The options that it takes."""
        return list(inspect.signature(self.generate).parameters)[2:]

    def __call__(self, **options: Any) -> Schedule:
        """Set options.

        Args:
            options: By the names that ``generate`` takes after ``stages`` and ``epochs``.

        Returns:
            A schedule with these options.

        Raises:
            OptionError: An option is unknown.
        """
        refuse_unknown(f"schedule {self.name!r}", options, self.option_names)
        return replace(self, options={**self.options, **options})

    @property
    def call(self) -> str:
        """Name and options as a user writes them, such as ``full(learning_rate=0.001)``."""
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name

    def phases(self, stages: Sequence[str], epochs: int) -> EndingPhases:
        """Start the schedule.

        Args:
            stages: The backbone's stages, from the input to the output.
            epochs: Epochs in all phases together.

        Returns:
            A generator of phases that is sent the history after each phase.
        """
        if epochs < 1:
            raise ScheduleError(f"epochs={epochs}: training takes at least 1 epoch")
        return self.generate(tuple(stages), epochs, **self.options)

    def to_json(self) -> dict[str, Any]:
        """Return name and options, from which ``find_schedule`` makes the schedule again."""
        return {"name": self.name, "options": dict(self.options)}


def schedule(generate: Callable[..., EndingPhases]) -> Schedule:
    """Make a schedule of a generator function; its name becomes the schedule's name.

    Args:
        generate: Takes ``stages`` and ``epochs``, then keyword options with defaults.

    Returns:
        The schedule.

    Examples:
        >>> @schedule
        ... def head_then_rest(stages, epochs, *, learning_rate=1e-3):
        ...     history = yield Phase(1, "head", learning_rate)
        ...     if epochs > 1:
        ...         yield Phase(epochs - 1, "all", learning_rate / 10)
        >>> [p.epochs for p in head_then_rest.phases(("stem",), 5)]
        [1, 4]
    """
    return Schedule(generate.__name__, generate)


@schedule
def linear_probe(
    stages: Sequence[str], epochs: int, *, learning_rate: float = PROBE_RATE
) -> Phases:
    """Train the head only, on the frozen backbone's features, without augmentation."""
    yield Phase(epochs, "head", learning_rate, augment=False)


@schedule
def full(
    stages: Sequence[str],
    epochs: int,
    *,
    trainable: str | Sequence[str] = "all",
    learning_rate: float = TUNING_RATE,
    layer_decay: float = 0.85,
    batch_norm: str = "frozen",
) -> Phases:
    """Train everything from the start, or what ``trainable`` selects, see ``Phase``."""
    chosen = trainable if isinstance(trainable, str) else tuple(trainable)
    yield Phase(epochs, chosen, learning_rate, layer_decay, batch_norm)


@schedule
def lp_ft(
    stages: Sequence[str],
    epochs: int,
    *,
    probe_epochs: int | None = None,
    probe_learning_rate: float = PROBE_RATE,
    learning_rate: float | None = None,
    layer_decay: float = 0.85,
    batch_norm: str = "frozen",
    refit: bool = False,
) -> Phases:
    """Train the head first, then everything (Kumar et al., 2022, "Fine-tuning can distort").

    With a single epoch there is only the second phase. Without ``learning_rate`` it is 3e-4, or down to a
    quarter of that after a head that started from a classifier with few errors, see ``after_head``. With
    ``refit``, the last of three or more epochs trains the head alone, which is fitted anew in closed form to
    what the backbone has learned (Kirichenko et al., 2023, "Last layer re-training"); ``fit`` sets it for
    heads that started in closed form.
    """
    if not isinstance(refit, bool):
        raise ScheduleError(f"lp_ft(refit={refit!r}): expected True or False")
    last = int(refit and epochs > 2)
    probe = min(probe_length("lp_ft", probe_epochs, epochs), epochs - 1 - last)
    rate = TUNING_RATE if learning_rate is None else learning_rate
    tuning = Phase(epochs - probe - last, "all", rate, layer_decay, batch_norm)
    if probe:
        history = yield Phase(probe, "head", probe_learning_rate, augment=False)
        if learning_rate is None:
            tuning = after_head(tuning, history)
    yield tuning
    if last:
        yield Phase(last, "head", STARTED_RATE, augment=False, refit_head=True)


@schedule
def gradual(
    stages: Sequence[str],
    epochs: int,
    *,
    probe_learning_rate: float = PROBE_RATE,
    learning_rate: float = TUNING_RATE,
    layer_decay: float = 0.85,
    batch_norm: str = "frozen",
) -> Phases:
    """Train the head, then one more stage a phase, deepest first (Howard and Ruder, 2018).

    With fewer epochs than stages, several stages join at a time.
    """
    steps = min(epochs - 1, len(stages))
    phases = [Phase(_fraction(epochs, steps + 1, 0), "head", probe_learning_rate, augment=False)]
    for step in range(1, steps + 1):
        first = len(stages) - len(stages) * step // steps
        length = _fraction(epochs, steps + 1, step)
        phases.append(Phase(length, stages[first], learning_rate, layer_decay, batch_norm))
    yield from one_by_one(phases)


@schedule
def milestones(
    stages: Sequence[str],
    epochs: int,
    *,
    at: Mapping[int, str] | None = None,
    probe_learning_rate: float = PROBE_RATE,
    learning_rate: float = TUNING_RATE,
    layer_decay: float = 0.85,
    batch_norm: str = "frozen",
) -> Phases:
    """Unfreeze at stated epochs; ``at={2: "stage3", 5: "all"}`` starts with the head at epoch 0.

    Without ``at`` everything is unfrozen half way.
    """
    try:
        plan = {int(e): str(s) for e, s in (at or {epochs // 2: "all"}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ScheduleError(f"milestones(at={at!r}): expected {{epoch: stage}}") from error
    unknown = [s for s in plan.values() if s not in ("head", "all", *stages)]
    if unknown:
        raise ScheduleError(
            f"milestones name {unknown[0]!r}, which is not a stage of this backbone"
            f"{near_matches(unknown[0], ['head', 'all', *stages])}"
        )
    starts = sorted({0, *plan})
    phases = []
    for start, end in zip(starts, [*starts[1:], epochs], strict=True):
        if not 0 <= start < end <= epochs:
            raise ScheduleError(f"milestones at {starts} are not within {epochs} epochs")
        trainable = plan.get(start, "head")
        if trainable == "head":
            phases.append(Phase(end - start, "head", probe_learning_rate, augment=False))
        else:
            phases.append(Phase(end - start, trainable, learning_rate, layer_decay, batch_norm))
    yield from one_by_one(phases)


@schedule
def last_n(
    stages: Sequence[str],
    epochs: int,
    *,
    n: int = 1,
    learning_rate: float = TUNING_RATE,
    layer_decay: float = 0.85,
    batch_norm: str = "frozen",
) -> Phases:
    """Train the head and the last ``n`` stages; the rest stays frozen."""
    if not isinstance(n, int) or not 0 <= n <= len(stages):
        raise ScheduleError(f"last_n(n={n!r}) on a backbone of {len(stages)} stages")
    trainable = stages[len(stages) - n] if n else "head"
    yield Phase(epochs, trainable, learning_rate, layer_decay, batch_norm)


def with_defaults(chosen: Schedule, defaults: Mapping[str, Any]) -> Schedule:
    """Set options of a built-in schedule, where the user set none.

    ``linear_probe`` has only the rate of a head alone, ``probe_learning_rate``.

    Args:
        chosen: The schedule of a run.
        defaults: Values by name; those that it has no option for do not matter.

    Returns:
        A schedule with these options; another one is returned as it is.

    Examples:
        >>> with_defaults(lp_ft(learning_rate=0.01), ADAPTER_OPTIONS).options
        {'learning_rate': 0.01, 'layer_decay': 1.0}
        >>> with_defaults(full, {"probe_epochs": 0, "batch_norm": "train"}).options
        {'batch_norm': 'train'}
        >>> with_defaults(linear_probe, {"learning_rate": 2e-3, "probe_learning_rate": 5e-4}).options
        {'learning_rate': 0.0005}
    """
    if chosen.generate is linear_probe.generate:
        rate = defaults.get("probe_learning_rate")
        return chosen if rate is None else chosen(**{"learning_rate": rate, **chosen.options})
    if chosen.generate not in (one.generate for one in (full, lp_ft, gradual, milestones, last_n)):
        return chosen
    known = {name: value for name, value in defaults.items() if name in chosen.option_names}
    return chosen(**{**known, **chosen.options})


def one_by_one(phases: Sequence[Phase]) -> Phases:
    """Yield phases that exist already, so that a wrong option is refused before the first one."""
    for phase in phases:
        _ = yield phase  # a list, unlike a generator, cannot be sent the history


def probe_length(name: str, probe_epochs: int | None, epochs: int) -> int:
    """Return how many epochs train the head before anything else trains.

    Args:
        name: Name of the schedule, for the message.
        probe_epochs: The schedule's option; ``None`` for 30 % of the epochs.
        epochs: Epochs in all phases together, of which at least one is left.

    Raises:
        ScheduleError: The option is not a number of epochs.
    """
    probe = max(1, round(0.3 * epochs)) if probe_epochs is None else probe_epochs
    if not isinstance(probe, int) or probe < 0:
        raise ScheduleError(f"{name}(probe_epochs={probe!r}): expected a non-negative integer")
    return min(probe, epochs - 1)


def after_head(phase: Phase, history: History | None) -> Phase:
    """Lower the learning rate of a phase where the start of the head leaves little to learn.

    The rate is the whole one if the classifier from which the head started was wrong for at least 20 % of the
    images that it was not fitted to, or for 60 of them, and proportional to its errors below, down to a quarter.

    Args:
        phase: What follows the phase of the head.
        history: The records of that phase, which tell how the head started. A loop over phases sends ``None``.

    Returns:
        The phase with its rate and the reason.

    Examples:
        >>> start = {"accuracy": 0.9, "images": 100}
        >>> found = after_head(Phase(7, learning_rate=3e-4), [{"head_start": start}])
        >>> found.learning_rate, found.reason
        (0.00015, 'the head started with 90.0% of left-out images right, so at 50% of the learning rate')
    """
    start = history[-1].get("head_start") if history else None
    if not start or start["accuracy"] is None:
        return phase
    errors = 1 - start["accuracy"]
    share = max(errors / FULL_RATE_ERRORS, errors * start["images"] / FULL_RATE_COUNT, LEAST_SHARE)
    if round(share, 6) >= 1:
        return phase
    reason = (
        f"the head started with {start['accuracy']:.1%} of left-out images right, so at {share:.0%} of the "
        "learning rate"
    )
    return replace(phase, learning_rate=round(share * phase.learning_rate, 12), reason=reason)


def for_started_head(chosen: Schedule, refit: bool = False) -> Schedule:
    """Set a lower learning rate of the head alone, where the user set none.

    Args:
        chosen: The schedule of a run whose head does not start at random.
        refit: Whether the head is fitted anew at the end as well, if the schedule takes ``refit`` and the user
            did not set it.

    Returns:
        A schedule whose options that would be ``PROBE_RATE`` are ``STARTED_RATE``.

    Examples:
        >>> for_started_head(lp_ft(learning_rate=1e-3)).call
        'lp_ft(learning_rate=0.001, probe_learning_rate=0.0003)'
        >>> for_started_head(lp_ft, refit=True).call
        'lp_ft(probe_learning_rate=0.0003, refit=True)'
    """
    parameters = inspect.signature(chosen.generate).parameters
    found: dict[str, Any] = {
        n: STARTED_RATE for n, p in parameters.items() if p.default == PROBE_RATE
    }
    if refit and chosen.generate is lp_ft.generate:
        found["refit"] = True
    return chosen(**{**found, **chosen.options}) if found else chosen


@hookimpl
def register_schedules() -> list[Schedule]:
    """Provide the built-in schedules."""
    return [linear_probe, full, lp_ft, gradual, milestones, last_n]


def _fraction(total: int, parts: int, index: int) -> int:
    """Divide an integer into parts that differ by at most one."""
    return total * (index + 1) // parts - total * index // parts

"""Optimizers: which a run may use by name, and which a task asks for.

By default one optimizer trains everything that a phase trains. A task with several, as adversarial
training has, returns one ``OptimizerSpec`` for each from ``Task.optimizers``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from visiongraft.errors import OptionError, PluginError, near_matches
from visiongraft.hookspecs import hookimpl
from visiongraft.options import is_integer, is_number, refuse_unknown
from visiongraft.schedules import SHAPES

if TYPE_CHECKING:
    from visiongraft.task import Task

Groups = list[dict[str, Any]]
Part = TypeVar("Part")


@dataclass(frozen=True)
class OptimizerFactory:
    """A named way to make an optimizer, together with its options.

    Attributes:
        name: How users ask for it.
        make: Called with parameter groups and the options. The optimizer must use the groups as they
            are, with the learning rate ``lr`` and ``weight_decay`` of each, and keep its state by
            parameter, as PyTorch's do; its ``step`` takes no closure.
        options: What the user set.
    """

    name: str
    make: Callable[..., torch.optim.Optimizer]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, **options: Any) -> OptimizerFactory:
        """Set options.

        Args:
            options: By the names that ``make`` takes after the groups.

        Returns:
            A factory with these options.

        Raises:
            OptionError: An option is unknown.
        """
        known = list(inspect.signature(self.make).parameters)[1:]
        refuse_unknown(f"optimizer {self.name!r}", options, known)
        return replace(self, options={**self.options, **options})

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """Make the optimizer.

        Args:
            groups: Dicts with ``params``, ``lr`` and ``weight_decay``, among others.

        Returns:
            An optimizer of these parameters.

        Raises:
            OptionError: It refuses the value of an option.
        """
        try:
            return self.make(groups, **self.options)
        except (TypeError, ValueError) as error:  # as PyTorch's raise for a momentum of -1
            raise OptionError(
                f"optimizer {self.name!r} with {dict(self.options)}: {error}"
            ) from error


@dataclass(frozen=True)
class OptimizerSpec:
    """One of the optimizers of a task, see ``Task.optimizers``.

    Attributes:
        name: Name, by which ``batch.step.optimizer`` tells the training step which optimizer it is
            for.
        parts: What it trains: names as in a tuple of ``Phase.trainable``, such as ``("backbone",
            "head")`` or ``("loss.critic",)``. In each phase it holds those of them that the phase
            trains, and rests if there are none.
        optimizer: Name of the optimizer; ``None`` for that of the run.
        options: Options of the optimizer, beside those that the user set.
        rate: Factor on the learning rate of the phase.
        every: It makes a step in every so many steps, the first included.
        clip_norm: Maximum gradient norm; ``None`` for that of the run.
        shape: Course of the learning rate, see ``Phase``; ``None`` for that of the phase.
        transfer_losses: Whether transfer losses are added to its steps. ``False`` for a critic of
            what the network returns, which they cannot reach.

    Raises:
        OptionError: A value is invalid.

    Examples:
        >>> OptimizerSpec("critic", ("loss.critic",), options={"betas": (0.0, 0.9)}, rate=4.0).every
        1
    """

    name: str = "main"
    parts: tuple[str, ...] = ("*",)
    optimizer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 1.0
    every: int = 1
    clip_norm: float | None = None
    shape: str | None = None
    transfer_losses: bool = True

    def __post_init__(self) -> None:
        where = f"of optimizer {self.name!r}"
        if not self.parts or isinstance(self.parts, str):
            raise OptionError(f"parts={self.parts!r} {where} is not a tuple of names")
        if not (is_number(self.rate) and self.rate > 0):
            raise OptionError(f"rate={self.rate!r} {where} is not positive")
        if not is_integer(self.every, 1):
            raise OptionError(f"every={self.every!r} {where} is not an integer of at least 1")
        if self.clip_norm is not None and not (is_number(self.clip_norm) and self.clip_norm > 0):
            raise OptionError(f"clip_norm={self.clip_norm!r} {where} is not positive")
        if self.shape is not None and self.shape not in SHAPES:
            raise OptionError(
                f"shape={self.shape!r} {where} is unknown{near_matches(self.shape, SHAPES)}"
            )


def task_optimizers(task: Task) -> tuple[OptimizerSpec, ...]:
    """Return the optimizers of a task, at least one.

    Raises:
        PluginError: The task returns something else than optimizers, each with a name of its own.
    """
    specs = task.optimizers() or (OptimizerSpec(),)
    good = isinstance(specs, tuple) and all(isinstance(each, OptimizerSpec) for each in specs)
    if not good or len({spec.name for spec in specs}) < len(specs):
        raise PluginError(
            f"optimizers() of task {task.name!r} returned {specs!r}, not a tuple of OptimizerSpec, "
            "each with another name"
        )
    return specs


def name_parts(parts: Mapping[str, Part], spec: OptimizerSpec, optimizers: int) -> dict[str, Part]:
    """Name the loss parts of one optimizer among those of all.

    Args:
        parts: Anything by the names of loss parts.
        spec: The optimizer that they are for.
        optimizers: Number of the task's optimizers.

    Returns:
        The same by ``optimizer.part``, or by the part's own name if there is one optimizer.

    Examples:
        >>> name_parts({"camera": 1.0}, OptimizerSpec("critic"), 2)
        {'critic.camera': 1.0}
    """
    prefix = f"{spec.name}." if optimizers > 1 else ""
    return {f"{prefix}{name}": part for name, part in parts.items()}


def optimizer(make: Callable[..., torch.optim.Optimizer]) -> OptimizerFactory:
    """Make a factory of a function; its name becomes the optimizer's name.

    Args:
        make: Takes parameter groups, then keyword options with defaults.

    Returns:
        The factory.

    Examples:
        >>> @optimizer
        ... def rmsprop(groups, *, alpha=0.99):
        ...     return torch.optim.RMSprop(groups, alpha=alpha)
        >>> rmsprop(alpha=0.9).options
        {'alpha': 0.9}
    """
    return OptimizerFactory(make.__name__, make)


@optimizer
def adamw(
    groups: Groups, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    return torch.optim.AdamW(groups, betas=betas, eps=eps)


@optimizer
def sgd(groups: Groups, *, momentum: float = 0.9, nesterov: bool = True) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov momentum."""
    return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov)


@hookimpl
def register_optimizers() -> list[OptimizerFactory]:
    """Provide the built-in optimizers."""
    return [adamw, sgd]

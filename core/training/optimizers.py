"""Optimizers that survive freezing and unfreezing, and their learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from visiongraft.errors import CheckpointError, PluginError
from visiongraft.optimizers import Groups, OptimizerFactory, OptimizerSpec


@dataclass(frozen=True)
class RunOptimizer:
    """An optimizer of a run, before a phase says what it trains.

    Attributes:
        spec: What the task asks for.
        factory: Makes it.
    """

    spec: OptimizerSpec
    factory: OptimizerFactory


@dataclass
class PhaseOptimizer:
    """An optimizer at work in a phase.

    Attributes:
        spec: What the task asks for.
        optimizer: PyTorch's optimizer.
    """

    spec: OptimizerSpec
    optimizer: torch.optim.Optimizer


def build_optimizer(
    factory: OptimizerFactory, groups: Groups, previous: Iterable[torch.optim.Optimizer] = ()
) -> torch.optim.Optimizer:
    """Make an optimizer of a phase; parameters that trained before keep their moments.

    Args:
        factory: Makes the optimizer.
        groups: From ``trainable.parameter_groups``.
        previous: The optimizers of the phase before.

    Returns:
        An optimizer of exactly these parameters.

    Raises:
        OptionError: The value of an option is invalid.
    """
    optimizer = factory.build(groups)
    for parameter in named_parameters(optimizer).values():
        for before in previous:
            if parameter in before.state:
                optimizer.state[parameter] = before.state[parameter]
    return optimizer


def learning_rate_factor(
    step: int,
    steps: int,
    shape: str = "cosine",
    warmup: float = 0.05,
    held: float = math.inf,
) -> float:
    """Scale the peak learning rate: linear warm-up, then by the shape of the phase.

    Args:
        step: Step of the phase, from 0.
        steps: Steps in the phase.
        shape: ``"cosine"`` or ``"linear"`` down to zero, or ``"constant"``.
        warmup: Fraction of the steps that warms up.
        held: Step from which the factor stays as it is, after the warm-up.

    Returns:
        A factor in (0, 1].

    Examples:
        >>> [round(learning_rate_factor(s, 100), 2) for s in (0, 5, 52, 99)]
        [0.2, 1.0, 0.51, 0.0]
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (min(step, max(held, rising)) - rising) / max(1, steps - rising)
    if shape == "constant":
        return 1.0
    return 1 - done if shape == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to its peak times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def named_parameters(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the parameters of an optimizer that ``build_optimizer`` made, by name."""
    return {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }


def optimizer_tensors(
    optimizers: Iterable[torch.optim.Optimizer],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the state of optimizers, keyed by parameter name.

    Args:
        optimizers: Made by ``build_optimizer``; no two have a parameter in common.

    Returns:
        Tensors by ``"<parameter>/<slot>"``, and the slots that are not tensors, likewise.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for optimizer in optimizers:
        for name, parameter in named_parameters(optimizer).items():
            for slot, value in optimizer.state.get(parameter, {}).items():
                target = tensors if isinstance(value, Tensor) else values
                target[f"{name}/{slot}"] = value
    return tensors, values


def restore_optimizers(
    optimizers: Iterable[torch.optim.Optimizer],
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
) -> None:
    """Restore the state of optimizers.

    Args:
        optimizers: With the same parameters as those that were read.
        tensors: From ``optimizer_tensors``.
        values: From ``optimizer_tensors``.

    Raises:
        CheckpointError: The state names a parameter that no optimizer holds.
    """
    owners = {n: (o, p) for o in optimizers for n, p in named_parameters(o).items()}
    for key, value in {**tensors, **values}.items():
        name, _, slot = key.rpartition("/")
        if name not in owners:
            raise CheckpointError(
                f"the checkpoint's optimizer state names {name!r}, which is frozen"
            )
        optimizer, parameter = owners[name]
        if isinstance(value, Tensor):
            # AdamW keeps its step counter on the CPU, moments beside their parameter.
            value = value.clone() if slot == "step" else value.to(parameter.device, copy=True)
        optimizer.state[parameter][slot] = value


class OptimizerWatch:
    """Refuses optimizers that a task keeps for itself, whose state no checkpoint contains.

    An optimizer that lives within one training step, such as that of an inner loop, is accepted, and
    so is one without state.

    Args:
        owner: Name of the task, for the message.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._step = 0
        self._first_step: WeakKeyDictionary[torch.optim.Optimizer, int] = WeakKeyDictionary()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the optimizers that are stepped within a block, one training step of the task.

        Raises:
            PluginError: One of them was stepped in an earlier block, too.
        """
        self._step += 1
        handle = register_optimizer_step_post_hook(self._note)
        try:
            yield
        finally:
            handle.remove()

    def _note(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        first = self._first_step.setdefault(optimizer, self._step)
        if first != self._step and any(optimizer.state.values()):
            raise PluginError(
                f"task {self._owner!r} keeps an optimizer of its own ({type(optimizer).__name__}), "
                "whose state no checkpoint contains, so that a resumed run would differ; register "
                "what it trains as parameters of the head or the loss, which the run's optimizer "
                "trains"
            )

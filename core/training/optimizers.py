"""Optimizers that survive freezing and unfreezing, and their learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from visiongraft.errors import CheckpointError, OptionError, PluginError, near_matches

Groups = list[dict[str, Any]]

OPTIMIZERS: dict[str, Callable[[Groups], torch.optim.Optimizer]] = {
    "adamw": lambda groups: torch.optim.AdamW(groups),
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
}


def check_optimizer_name(name: str) -> None:
    """Refuse an unknown optimizer.

    Args:
        name: What the user wrote.

    Raises:
        OptionError: The name is unknown.
    """
    if name not in OPTIMIZERS:
        raise OptionError(f"no optimizer {name!r}{near_matches(str(name), OPTIMIZERS)}")


def build_optimizer(
    name: str, groups: Groups, previous: torch.optim.Optimizer | None = None
) -> torch.optim.Optimizer:
    """Make a phase's optimizer; parameters that trained before keep their moments.

    Args:
        name: ``"adamw"`` or ``"sgd"`` (Nesterov momentum 0.9).
        groups: From ``freezing.parameter_groups``.
        previous: The optimizer of the phase before.

    Returns:
        An optimizer of exactly these parameters.

    Raises:
        OptionError: The name is unknown.
    """
    check_optimizer_name(name)
    optimizer = OPTIMIZERS[name](groups)
    if previous is not None:
        for parameter in named_parameters(optimizer).values():
            if parameter in previous.state:
                optimizer.state[parameter] = previous.state[parameter]
    return optimizer


def learning_rate_factor(step: int, steps: int, warmup: float = 0.05) -> float:
    """Scale the peak learning rate: linear warm-up, then a cosine down to zero.

    Args:
        step: Step of the phase, from 0.
        steps: Steps in the phase.
        warmup: Fraction of the steps that warms up.

    Returns:
        A factor in (0, 1].

    Examples:
        >>> [round(learning_rate_factor(s, 100), 2) for s in (0, 5, 52, 99)]
        [0.2, 1.0, 0.51, 0.0]
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


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


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read an optimizer's state, keyed by parameter name.

    Args:
        optimizer: One that ``build_optimizer`` made.

    Returns:
        Tensors by ``"<parameter>/<slot>"``, and the slots that are not tensors, likewise.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for name, parameter in named_parameters(optimizer).items():
        for slot, value in optimizer.state.get(parameter, {}).items():
            target = tensors if isinstance(value, Tensor) else values
            target[f"{name}/{slot}"] = value
    return tensors, values


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Restore an optimizer's state.

    Args:
        optimizer: One with the same parameters as the one that was read.
        tensors: From ``optimizer_tensors``.
        values: From ``optimizer_tensors``.

    Raises:
        CheckpointError: The state holds a parameter that the optimizer does not.
    """
    parameters = named_parameters(optimizer)
    for key, value in {**tensors, **values}.items():
        name, _, slot = key.rpartition("/")
        if name not in parameters:
            raise CheckpointError(
                f"the checkpoint's optimizer state names {name!r}, which is frozen"
            )
        if isinstance(value, Tensor):
            # AdamW keeps its step counter on the CPU, moments beside their parameter.
            value = (
                value.clone() if slot == "step" else value.to(parameters[name].device, copy=True)
            )
        optimizer.state[parameters[name]][slot] = value


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

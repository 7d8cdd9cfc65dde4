"""The parts of a loss: means over samples, or sums with a weight of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from visiongraft.errors import PluginError

LossParts = Mapping[str, Tensor | tuple[Tensor, Tensor | float]]  # what a training step returns

FORM = "a tensor without dimensions, or (sum, weight)"


class LossPart(NamedTuple):
    """One part of the loss of a batch.

    Attributes:
        value: Scalar with gradients: the mean over the samples of the batch, or a sum.
        weight: Scalar that the sums of all batches of a step are divided by together; ``None`` for a
            mean over samples.
    """

    value: Tensor
    weight: Tensor | None = None

    @property
    def mean(self) -> float:
        """The value as a mean; 0 if it is over nothing."""
        if self.weight is None:
            return float(self.value.detach())
        weight = float(self.weight)
        return float(self.value.detach()) / weight if weight else 0.0


def read_parts(parts: Any, owner: str) -> dict[str, LossPart]:
    """Read what a training step returned.

    Args:
        parts: Tensors or pairs by name, see ``Task.build_loss``.
        owner: Name of the task, for the message.

    Returns:
        The parts by name.

    Raises:
        PluginError: It is something else.

    Examples:
        >>> read_parts({"missing": (torch.tensor(3.0), 2)}, "mine")["missing"].mean
        1.5
    """
    if not isinstance(parts, Mapping) or not parts:
        raise PluginError(
            f"the training step of task {owner!r} returned {type(parts).__name__}, not a dict of loss "
            "parts by name"
        )
    return {str(name): _read_part(str(name), part, owner) for name, part in parts.items()}


def _read_part(name: str, part: Any, owner: str) -> LossPart:
    pair = part if isinstance(part, tuple) and len(part) == 2 else (part, None)
    value, weight = pair
    if isinstance(value, Tensor) and value.ndim == 0:
        if weight is None and not isinstance(part, tuple):
            return LossPart(value)
        if isinstance(weight, (int, float)):
            weight = torch.tensor(float(weight))
        if isinstance(weight, Tensor) and weight.ndim == 0:
            return LossPart(value, weight.detach().to(value.device, torch.float32))
    raise PluginError(f"loss part {name!r} of task {owner!r} is {_described(part)}, not {FORM}")


def _described(part: Any) -> str:
    if isinstance(part, Tensor):
        return f"a tensor of shape {tuple(part.shape)}"
    if isinstance(part, tuple):
        return f"({', '.join(_described(each) for each in part)})"
    return type(part).__name__

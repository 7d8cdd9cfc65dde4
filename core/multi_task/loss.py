"""The losses of several heads, balanced by given weights or by learned uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError, near_matches
from visiongraft.loss_parts import read_parts
from visiongraft.options import is_number
from visiongraft.task import LossParts, Task
from visiongraft.task_contract.loss import build_loss

UNCERTAINTY = "uncertainty"


class MultiLoss(nn.Module):
    """The losses of the heads.

    With learned uncertainty (Kendall, Gal and Cipolla, 2018) the loss L of a head counts as
    ``exp(-s) * L + s / 2``, where s, the logarithm of the head's variance, is a parameter that starts at
    0. The paper has another factor of 1/2 before squared errors than before cross-entropies; it would
    only shift s.

    Args:
        backbone: The backbone that the heads share.
        heads: The task of each head.
        weights: The weight of each head; ``None`` learns them.

    Attributes:
        losses: The loss of each head.
        log_variances: s of each head, if it is learned.
    """

    def __init__(
        self, backbone: Backbone, heads: Mapping[str, Task], weights: Mapping[str, float] | None
    ) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(
            {name: build_loss(task, backbone) for name, task in heads.items()}
        )
        self.weights = weights
        learned = heads if weights is None else ()
        self.log_variances = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(())) for name in learned}
        )

    def forward(self, head: str, parts: LossParts, count: int | None) -> dict[str, Any]:
        """Weigh the loss parts of one head.

        Args:
            head: Its name.
            parts: What its training step returned.
            count: The number of samples that have the head's target, if others of the batch may lack
                it; ``None`` if none does.

        Returns:
            The parts as ``head.part``. With ``count`` each has a weight of its own, so that a step
            divides by the samples that count, over all batches and processes.
        """
        read = read_parts(parts, head)
        learned = self.log_variances[head] if self.weights is None else None
        factor: Any = (-learned).exp() if learned is not None else self.weights_of(head)
        found: dict[str, Any] = {}
        for name, part in read.items():
            value = part.value.float() * factor
            found[f"{head}.{name}"] = _mean_over(value, count, part.weight)
        if learned is not None:
            found[f"{head}.{UNCERTAINTY}"] = _mean_over(learned / 2, count, None)
        return found

    def weights_of(self, head: str) -> float:
        """Return the weight of a head that is not learned."""
        assert self.weights is not None
        return self.weights.get(head, 1.0)


def check_weights(weights: Any, heads: Mapping[str, Task]) -> None:
    """Check the weights of heads.

    Raises:
        OptionError: They are neither numbers by head nor ``"uncertainty"``.
    """
    if weights == UNCERTAINTY:
        return
    if not isinstance(weights, Mapping):
        raise OptionError(
            f"weights={weights!r} is neither a dict from heads to numbers nor {UNCERTAINTY!r}"
        )
    for name, weight in weights.items():
        if name not in heads:
            raise OptionError(f"weights: there is no head {name!r}{near_matches(str(name), heads)}")
        if not is_number(weight) or weight < 0:
            raise OptionError(f"weights: {weight!r} of head {name!r} is not a non-negative number")
    if len(weights) == len(heads) and not any(weights.values()):
        raise OptionError("weights: all heads have weight 0, so that nothing would be learned")


def _mean_over(value: Tensor, count: int | None, weight: Tensor | None) -> Any:
    """Return a loss part; a mean over some samples of the batch only, as their sum and number."""
    if weight is not None:
        return value, weight
    return value if count is None else (value * count, float(count))

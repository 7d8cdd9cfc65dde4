"""Class ids of images, for the losses that need them, and logistic regression on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.data.batch import class_ids
from visiongraft.errors import OptionError
from visiongraft.training.transfer_losses import TransferStep


def required_class_ids(step: TransferStep, loss: str) -> Tensor:
    """Return the targets of a batch, which must be one class id per image.

    Args:
        step: The step.
        loss: Name of the loss, for the message.

    Returns:
        int64 (N,).

    Raises:
        OptionError: The targets are anything else.
    """
    found = class_ids(step.batch.targets)
    if found is None:
        targets = step.batch.targets
        form = (
            f"{str(targets.dtype).removeprefix('torch.')} {tuple(targets.shape)}"
            if isinstance(targets, Tensor)
            else f"a {type(targets).__name__}"
        )
        raise OptionError(
            f"transfer loss {loss!r} needs one class id per image, integers (N,), but task "
            f"{step.task.name!r} has targets of another kind ({form}); choose another loss"
        )
    return found


def class_names(step: TransferStep, ids: Tensor) -> list[str]:
    """Return the names of the task's classes, or their ids as far as they occur in ``ids``."""
    names = step.task.metadata().get("class_names")
    if isinstance(names, Sequence) and len(names) > int(ids.max()):
        return [str(name) for name in names]
    return [str(i) for i in range(int(ids.max()) + 1)]


def fit_logistic(
    inputs: Tensor, ids: Tensor, classes: int, *, decay: float, bias: bool = True
) -> tuple[Tensor, Tensor]:
    """Fit a multinomial logistic regression: ``mean cross-entropy + decay / 2 * ||W||^2``.

    Args:
        inputs: float64 (N, D), on the CPU.
        ids: int64 (N,).
        classes: Number of classes C.
        decay: Weight of the squared norm.
        bias: Whether to fit an intercept.

    Returns:
        W (C, D) and the intercept (C,), float64.
    """
    weight = inputs.new_zeros(classes, inputs.shape[1]).requires_grad_(True)
    offset = inputs.new_zeros(classes).requires_grad_(bias)
    optimizer = torch.optim.LBFGS(
        [weight, offset] if bias else [weight], max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(inputs @ weight.T + offset, ids)
        loss = loss + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach(), offset.detach()

"""Norms of weights and gradients by stage, for schedules that adapt to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from visiongraft.network import Network

SAMPLED = 8  # steps of an epoch whose gradients are measured, evenly spaced


def is_sampled(step: int, steps: int) -> bool:
    """Check whether the gradients of a step are measured.

    Args:
        step: Step of the epoch, from 0.
        steps: Steps in the epoch.

    Examples:
        >>> [step for step in range(100) if is_sampled(step, 100)]
        [0, 13, 25, 38, 50, 63, 75, 88]
    """
    return step == 0 or step * SAMPLED // steps > (step - 1) * SAMPLED // steps


def gradient_norms(network: Network) -> dict[str, float]:
    """Compute the norm of the gradients of each part that trains.

    Args:
        network: A network after a backward pass.

    Returns:
        Norms by stage, and of ``"head"`` and ``"loss"``.
    """
    parameters = network.named_parameters()
    return _norms(network, ((name, p.grad) for name, p in parameters if p.grad is not None))


def weight_norms(network: Network) -> dict[str, float]:
    """Compute the norm of the trainable parameters of each part that trains, as ``gradient_norms``."""
    parameters = network.named_parameters()
    return _norms(network, ((name, p.detach()) for name, p in parameters if p.requires_grad))


def mean_norms(sums: Mapping[str, list[float]], network: Network) -> dict[str, dict[str, float]]:
    """Return what the record of an epoch holds.

    Args:
        sums: Of each part the sum of its gradients' norms, and their number.
        network: The network at the end of the epoch.

    Returns:
        By part, the norm of its ``weights`` and the mean norm of its ``gradients``.
    """
    return {
        part: {"weights": norm, "gradients": sums[part][0] / sums[part][1] if part in sums else 0.0}
        for part, norm in weight_norms(network).items()
    }


def _norms(network: Network, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    stage_of = network.backbone.info.stage_of
    found: dict[str, list[Tensor]] = {}
    for name, tensor in tensors:
        part, _, rest = name.partition(".")
        key = stage_of[rest] if part == "backbone" else "head" if part == "head" else "loss"
        found.setdefault(key, []).append(tensor)
    return {
        key: float(torch.stack(torch._foreach_norm(group)).norm()) for key, group in found.items()
    }

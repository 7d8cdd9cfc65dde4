"""How far class scores are from those of another network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from visiongraft.errors import OptionError, shorten


def softened_divergence(scores: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Compute ``T^2 * KL(softmax(wanted / T) || softmax(scores / T))``, the loss of distillation.

    Without the factor ``T^2`` gradients would shrink about as ``1 / T^2`` (Hinton et al., 2015).

    Args:
        scores: Logits (N, C, ...), with gradients. One channel is the logit of a binary class.
        wanted: Logits of the same shape.
        temperature: T, above 0.

    Returns:
        The mean over images and positions, in float32.
    """
    scores, wanted = _two_or_more(scores.float()), _two_or_more(wanted.detach().float())
    student = F.log_softmax(scores / temperature, dim=1)
    teacher = F.log_softmax(wanted / temperature, dim=1)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(1).mean()


def output_divergence(
    outputs: Any, wanted: Any, temperature: float, owner: str, remedy: str
) -> Tensor:
    """Compute the divergence of all class scores that a head returns.

    Args:
        outputs: A tensor, tuple or dict of class scores (N, C, ...), with gradients.
        wanted: The same of another head; maps may differ in height and width.
        temperature: T, above 0.
        owner: What returned ``wanted``, for messages.
        remedy: What to do if they cannot be compared, for messages.

    Returns:
        The mean over the tensors of ``softened_divergence``.

    Raises:
        OptionError: The outputs are no class scores, or differ in form.
    """
    pairs, structures = [], []
    for tree in (outputs, wanted):
        leaves, structure = pytree.tree_flatten(tree)
        pairs.append(leaves)
        structures.append(structure)
    alike = structures[0] == structures[1] and all(
        a.ndim == b.ndim and a.shape[:2] == b.shape[:2] for a, b in zip(*pairs, strict=True)
    )
    if not alike:
        raise OptionError(
            f"{owner} returns {describe_shapes(wanted)}, and the network {describe_shapes(outputs)}; "
            f"only scores of the same classes can be compared; {remedy}"
        )
    if not all(a.ndim >= 2 and a.is_floating_point() for a in pairs[0]):
        raise OptionError(
            f"{owner} returns {describe_shapes(wanted)}, which are no class scores (N, C, ...); {remedy}"
        )
    parts = [
        softened_divergence(a, resized(b, a), temperature) for a, b in zip(*pairs, strict=True)
    ]
    return torch.stack(parts).mean()


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps (N, C, h, w) to the height and width of others; what has no map is unchanged."""
    if maps.ndim != 4 or maps.shape[2:] == like.shape[2:]:
        return maps
    return F.interpolate(maps, like.shape[2:], mode="bilinear", align_corners=False)


def describe_shapes(outputs: Any) -> str:
    """Describe the shapes of a head's outputs in a message."""
    return shorten(str(pytree.tree_map(lambda value: tuple(getattr(value, "shape", ())), outputs)))


def _two_or_more(scores: Tensor) -> Tensor:
    if scores.shape[1] > 1:
        return scores
    return torch.cat([torch.zeros_like(scores), scores], dim=1)

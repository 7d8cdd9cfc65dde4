"""What methods of adversarial domain adaptation share: reversed gradients, points and discriminators."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import Backbone, Features
from visiongraft.task import Task

STREAM = "unlabelled"  # the images of the target domain


def ramp(progress: float) -> float:
    """Return the published schedule of adversarial strength, ``2 / (1 + exp(-10 p)) - 1``.

    Args:
        progress: Fraction of the run that has passed, p in [0, 1].

    Examples:
        >>> [round(ramp(p), 3) for p in (0.0, 0.1, 0.5, 1.0)]
        [0.0, 0.462, 0.987, 1.0]
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.factor * gradients[0], None


def reverse(values: Tensor, factor: float) -> Tensor:
    """Return the values themselves; their gradient is multiplied by ``-factor`` (Ganin and Lempitsky, 2015).

    Args:
        values: Any tensor.
        factor: At least 0.
    """
    reversed_: Tensor = _Reverse.apply(values, factor)
    return reversed_


class Discriminator(nn.Sequential):
    """A perceptron with two hidden layers that tells the source domain (1) from the target domain (0).

    Args:
        inputs: Length of its input vectors.
        hidden: Width of the hidden layers.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def losses(self, vectors: Tensor, *, source: bool) -> Tensor:
        """Compute the binary cross-entropy of each vector.

        Args:
            vectors: (..., inputs), of one domain.
            source: Whether it is the source domain.

        Returns:
            float32 (...).
        """
        logits = self(vectors)[..., 0].float()
        label = torch.full_like(logits, float(source))
        return F.binary_cross_entropy_with_logits(logits, label, reduction="none")


def is_dense(task: Task) -> bool:
    """Check whether a task predicts maps, so that domains are compared position by position."""
    return bool(task.full_resolution_outputs)


def points_of(features: Features, dense: bool) -> Tensor:
    """Return the vectors in which domains are compared.

    Args:
        features: Of a batch of one domain.
        dense: Whether to compare positions of the deepest feature map, which the heads of dense tasks
            read, instead of embeddings.

    Returns:
        (N, P, D): of each image its embedding, P = 1, or all positions of the map, P = H * W.
    """
    if dense:
        return features.maps[-1].flatten(2).transpose(1, 2)
    return features.pooled[:, None]


def point_length(backbone: Backbone, dense: bool) -> int:
    """Return D of ``points_of``."""
    return backbone.info.channels[-1] if dense else backbone.info.embedding_dim

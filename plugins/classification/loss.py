"""Losses on logits, for class ids and for soft targets (mixup, CutMix)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _WeightedLoss(nn.Module):
    """A loss with label smoothing and, unless ``weights`` is empty, a weight of each class."""

    weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer(
            "weights", torch.tensor(weights, dtype=torch.float32) if weights else None
        )


class CrossEntropy(_WeightedLoss):
    """Cross-entropy for single-label classification.

    Weighted losses are averaged over the number of images, not over the sum of the weights.
    Otherwise gradient accumulation and several processes would not match one large batch.

    Args:
        label_smoothing: Fraction of each target that is spread evenly over all classes, in [0, 1).
        weights: Weight of each class; unweighted if empty.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            logits: (N, C).
            targets: int64 (N,) class ids, or float (N, C) soft targets that sum to 1.

        Returns:
            ``cross_entropy``, averaged over the images.
        """
        losses = F.cross_entropy(
            logits.float(),
            targets,
            weight=self.weights,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return {"cross_entropy": losses.mean()}


class BinaryCrossEntropy(_WeightedLoss):
    """Binary cross-entropy for multi-label classification.

    Args:
        label_smoothing: How far targets are moved from 0 and 1 towards 0.5, in [0, 1).
        weights: Weight of each class's positive term; unweighted if empty.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            logits: (N, C).
            targets: float (N, C) in 0..1.

        Returns:
            ``binary_cross_entropy``, averaged over images and classes.
        """
        smooth = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        loss = F.binary_cross_entropy_with_logits(logits.float(), smooth, pos_weight=self.weights)
        return {"binary_cross_entropy": loss}


def balanced_positive_weights(counts: Sequence[int], images: int) -> tuple[float, ...]:
    """Compute weights that balance each class's positive images with its negative ones.

    Args:
        counts: Number of training images per class.
        images: Number of training images.

    Returns:
        One weight per class; 1 for a class that no image or every image has.

    Examples:
        >>> balanced_positive_weights([25, 0], 100)
        (3.0, 1.0)
    """
    return tuple((images - count) / count if 0 < count < images else 1.0 for count in counts)

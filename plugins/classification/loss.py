"""Losses on logits, for class ids and for mixed (soft) targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossEntropy(nn.Module):
    """Cross-entropy for one label per image.

    The weighted losses of the images are divided by their number, not by the sum of their
    weights: only so do accumulated gradients and several processes give what one large batch gives.

    Args:
        label_smoothing: Share of each target that is spread evenly over all labels, in [0, 1).
        weights: Factor for each label's term; none if empty.
    """

    weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weights", _as_tensor(weights))

    def forward(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            logits: (N, C).
            targets: int64 (N,) class ids, or float (N, C) shares that sum to 1.

        Returns:
            ``cross_entropy``, a mean over the images.
        """
        losses = F.cross_entropy(
            logits.float(),
            targets,
            weight=self.weights,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return {"cross_entropy": losses.mean()}


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy for any number of labels per image.

    Args:
        label_smoothing: How far targets are drawn from 0 and 1 towards 0.5, in [0, 1).
        weights: Factor for the term of each label where it is present; none if empty.
    """

    weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weights", _as_tensor(weights))

    def forward(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            logits: (N, C).
            targets: float (N, C) in 0..1.

        Returns:
            ``binary_cross_entropy``, a mean over the images of the mean over the labels.
        """
        smooth = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        loss = F.binary_cross_entropy_with_logits(logits.float(), smooth, pos_weight=self.weights)
        return {"binary_cross_entropy": loss}


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Weigh labels inversely to their frequency; over the training images the mean weight is 1.

    Args:
        counts: Training images of each label.

    Returns:
        One weight per label; 0 for a label without images, which has no term to weigh.

    Examples:
        >>> balanced_weights([30, 10])
        (0.6666666666666666, 2.0)
    """
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 0.0 for count in counts)


def balanced_positive_weights(counts: Sequence[int], images: int) -> tuple[float, ...]:
    """Weigh presence so that each label's images count as much as those without it.

    Args:
        counts: Training images of each label.
        images: All training images.

    Returns:
        One weight per label; 1 for a label that no image or every image has.

    Examples:
        >>> balanced_positive_weights([25, 0], 100)
        (3.0, 1.0)
    """
    return tuple((images - count) / count if 0 < count < images else 1.0 for count in counts)


def _as_tensor(weights: Sequence[float]) -> Tensor | None:
    return torch.tensor(weights, dtype=torch.float32) if weights else None

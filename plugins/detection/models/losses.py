"""What the losses of several detectors share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from visiongraft.plugins.detection.models.matching import IGNORED


def mean_over_images(losses: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average the loss terms of each image over the images.

    torchvision divides the sums over a batch by the number of its matched anchors. Here each
    image's sums are divided by its own number first: only then do gradient accumulation and several
    processes compute what one large batch does. For a single image the two are the same.

    Args:
        losses: The terms of each image.

    Returns:
        The terms of the batch.
    """
    terms: dict[str, list[Tensor]] = {}
    for image in losses:
        for name, value in image.items():
            terms.setdefault(name, []).append(value)
    return {name: torch.stack(values).mean() for name, values in terms.items()}


def focal_loss(logits: Tensor, class_ids: Tensor, matches: Tensor) -> Tensor:
    """Sum the focal loss over the anchors of an image that are not ignored.

    Args:
        logits: float32 (A, classes).
        class_ids: int64 (n,), of the objects.
        matches: int64 (A,), see ``matching``.

    Returns:
        A scalar.
    """
    matched, used = matches >= 0, matches != IGNORED
    truth = torch.zeros_like(logits)
    truth[matched, class_ids[matches[matched]]] = 1.0
    loss: Tensor = sigmoid_focal_loss(logits[used], truth[used], reduction="sum")
    return loss

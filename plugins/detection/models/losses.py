"""What the losses of several detectors share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from visiongraft.plugins.detection.models.anchors import is_letterboxed
from visiongraft.plugins.detection.models.matching import IGNORED
from visiongraft.plugins.detection.objects import scaled_boxes

Terms = dict[str, Tensor]


class ImageMeanLoss(nn.Module):
    """Compute the loss of each image, and average over the images.

    torchvision divides the sums over a batch by the number of its matched anchors. Here each
    image's sums are divided by its own number first: only then do gradient accumulation and several
    processes compute what one large batch does. For a single image the two are the same.

    Args:
        image_loss: Computes the terms of one image from the outputs of the head, the position of
            the image, and its objects, see ``scaled_boxes``.
    """

    def __init__(
        self, image_loss: Callable[[Mapping[str, Tensor], int, Mapping[str, Tensor]], Terms]
    ) -> None:
        super().__init__()
        self.image_loss = image_loss

    def forward(
        self, outputs: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> Terms:
        """Compute the loss.

        Args:
            outputs: The outputs of the head; of a two-stage head, with these targets.
            targets: The result of ``Objects.tensors``, one for each image.

        Returns:
            The terms, means over the images.
        """
        terms: dict[str, list[Tensor]] = {}
        for i, target in enumerate(targets):
            objects = scaled_boxes(target, outputs["size"], is_letterboxed(outputs))
            for name, value in self.image_loss(outputs, i, objects).items():
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

"""Encode boxes relative to anchors, and decode them; torchvision's own coders are private."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000.0 / 16)  # keeps exp() finite whatever is predicted


@dataclass(frozen=True)
class BoxCoder:
    """Code a box as the offset of its center and the log scale of its sides (Ren et al., 2015).

    Attributes:
        center: Factor of the codes of the center.
        side: Factor of the codes of width and height.
    """

    center: float = 1.0
    side: float = 1.0

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Compute the codes of boxes.

        Args:
            boxes: float32 (..., 4), corners in pixels.
            anchors: float32 (..., 4), one for each box.

        Returns:
            float32 (..., 4); not finite for boxes without area.
        """
        center, sides = _center_and_sides(anchors)
        box_center, box_sides = _center_and_sides(boxes)
        offsets = self.center * (box_center - center) / sides
        return torch.cat([offsets, self.side * torch.log(box_sides / sides)], -1)

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """Compute boxes from their codes.

        Args:
            codes: float32 (..., 4).
            anchors: float32 (..., 4), corners in pixels; broadcast to the shape of ``codes``.

        Returns:
            float32 (..., 4), corners in pixels.
        """
        center, sides = _center_and_sides(anchors)
        box_center = codes[..., :2] / self.center * sides + center
        scale = torch.exp((codes[..., 2:] / self.side).clamp(max=MAX_LOG_SCALE))
        half = 0.5 * (scale * sides)
        return torch.cat([box_center - half, box_center + half], -1)


def decode_distances(codes: Tensor, anchors: Tensor) -> Tensor:
    """Compute boxes from the distances of their sides to the centers of anchors (FCOS).

    Args:
        codes: float32 (..., 4), left, top, right and bottom, in sides of the anchor.
        anchors: float32 (..., 4), corners in pixels.

    Returns:
        float32 (..., 4), corners in pixels.
    """
    low, high = anchors[..., :2], anchors[..., 2:]
    center, sides = 0.5 * (low + high), high - low
    return torch.cat([center - codes[..., :2] * sides, center + codes[..., 2:] * sides], -1)


def _center_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides

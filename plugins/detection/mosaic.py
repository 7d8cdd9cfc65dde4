"""Augmentation of whole batches: mosaics of four images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visiongraft.plugins.detection.objects import scaled_boxes

Targets = list[dict[str, Tensor]]

PARTS = 4
NEAREST_EDGE = 0.25  # of a side, between the edge of a mosaic and the point where its images meet
VISIBLE = 0.3  # of a box's area, which must be left of it


def mosaic(
    images: Tensor, targets: Sequence[dict[str, Tensor]], fraction: float
) -> tuple[Tensor, Targets]:
    """Replace some images of a batch by mosaics of four.

    The image and three random ones of the batch meet in a random point; each is cropped to its quarter and
    keeps its scale. Boxes are cropped, and dropped if less than 30 % of their area is left. Batches of fewer
    than four images stay as they are. After Bochkovskiy et al., 2020, "YOLOv4: Optimal speed and accuracy of
    object detection".

    Args:
        images: float (N, C, height, width).
        targets: The result of ``Objects.tensors`` for each image.
        fraction: Probability of a mosaic for each image, in [0, 1].

    Returns:
        Images and targets, the latter in pixels of the batch; crowd regions are left out of mosaics.
    """
    if len(images) < PARTS:
        return images, list(targets)
    size = torch.tensor(images.shape[-2:], device=images.device)
    mixed, found = images.clone(), list(targets)
    for i in range(len(images)):
        if float(torch.rand(())) >= fraction:
            continue
        # Different ones: of one image in two parts, an object on the edge would get two boxes.
        others = (i + 1 + torch.randperm(len(images) - 1)[: PARTS - 1]) % len(images)
        spread = NEAREST_EDGE + (1 - 2 * NEAREST_EDGE) * torch.rand(2)
        middle = (spread * size.cpu()).round().long().tolist()
        parts = []
        for source, window in zip(
            [i, *others.tolist()], _quarters(middle, images.shape[-2:]), strict=True
        ):
            top, left, bottom, right = window
            mixed[i, :, top:bottom, left:right] = images[source, :, top:bottom, left:right]
            parts.append(_cropped(scaled_boxes(targets[source], size), window))
        found[i] = _joined(parts, size)
    return mixed, found


def _quarters(middle: Sequence[int], shape: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Return top, left, bottom and right of the four parts that meet in a point."""
    (y, x), (height, width) = middle, shape
    return [(0, 0, y, x), (0, x, y, width), (y, 0, height, x), (y, x, height, width)]


def _cropped(objects: dict[str, Tensor], window: tuple[int, int, int, int]) -> dict[str, Tensor]:
    """Crop boxes to a window, in which the image stays where it is."""
    top, left, bottom, right = window
    boxes = objects["boxes"]
    low, high = (boxes.new_tensor(corner) for corner in ((left, top), (right, bottom)))
    inside = torch.cat([boxes[:, :2].maximum(low), boxes[:, 2:].minimum(high)], dim=1)
    sides = (inside[:, 2:] - inside[:, :2]).clamp(min=0)
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept = (sides.prod(1) >= VISIBLE * whole) & (sides >= 1).all(1)
    return {"boxes": inside[kept], "labels": objects["labels"][kept]}


def _joined(parts: Sequence[dict[str, Tensor]], size: Tensor) -> dict[str, Tensor]:
    boxes, labels = (torch.cat([part[name] for part in parts]) for name in ("boxes", "labels"))
    return {
        "boxes": boxes,
        "labels": labels,
        "crowd": torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device),
        "areas": (boxes[:, 2:] - boxes[:, :2]).prod(1),
        "size": size,
    }

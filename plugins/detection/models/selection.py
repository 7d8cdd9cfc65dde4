"""Select a fixed number of detections per image from the scores of many candidates.

No shape here depends on values: dropped candidates get score 0, and results are padded to a fixed
length. So the same code runs in training, evaluation and in an exported graph, for any batch size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.plugins.detection.models.anchors import is_letterboxed
from visiongraft.plugins.detection.models.nms import nms_keep
from visiongraft.plugins.detection.objects import shown_sizes
from visiongraft.task import Decoded

EMPTY = -1  # class id of an empty slot


@dataclass(frozen=True)
class Limits:
    """The thresholds of detections.

    Attributes:
        score: Only scores above this are kept, in [0, 1).
        iou: A detection is suppressed if its intersection over union with a better one of its class
            is above this, in (0, 1].
        detections: Maximum number per image; the best are kept.
    """

    score: float
    iou: float
    detections: int


def select(boxes: Tensor, scores: Tensor, limits: Limits) -> tuple[Tensor, Tensor, Tensor]:
    """Suppress overlapping boxes, and keep the best of all classes.

    Args:
        boxes: float32 (N, M, 4) in network pixels.
        scores: float32 (N, C, M), one row per class.
        limits: The thresholds.

    Returns:
        Boxes (N, K, 4), scores (N, K) and class ids int64 (N, K), sorted by score in descending
        order; empty slots have score 0 and class id -1.
    """
    kept = nms_keep(boxes, scores, limits.iou, limits.score).flatten(1)
    return take_best(boxes, kept, boxes.shape[1], limits.detections)


def take_best(
    boxes: Tensor, scores: Tensor, candidates: int, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the best of all classes.

    Args:
        boxes: float32 (N, M, 4), the same for each class, or (N, C * M, 4).
        scores: float32 (N, C * M), class by class, 0 for no box.
        candidates: M.
        count: How many to return.

    Returns:
        See ``select``.
    """
    best, index = scores.topk(min(count, scores.shape[1]), dim=1)
    labels = torch.div(index, candidates, rounding_mode="floor")
    position = index if boxes.shape[1] == scores.shape[1] else index - labels * candidates
    chosen = boxes.gather(1, position[:, :, None].expand(-1, -1, 4))
    filled = best > 0
    chosen = chosen * filled[:, :, None]
    labels = torch.where(filled, labels, EMPTY)
    missing = count - best.shape[1]
    if missing:
        chosen = F.pad(chosen, (0, 0, 0, missing))
        best = F.pad(best, (0, missing))
        labels = F.pad(labels, (0, missing), value=EMPTY)
    return chosen, best, labels


def strongest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the best candidates, in their original order.

    Of equal scores, suppression prefers the first. Runtimes sort equal scores in different orders,
    so the original order is restored.

    Args:
        scores: float32 (N, M).
        count: How many to find, at most M.

    Returns:
        Scores and positions, (N, min(count, M)).
    """
    _, top = scores.topk(min(count, scores.shape[1]), dim=1)
    index, _ = top.sort(dim=1)
    return scores.gather(1, index), index


def results(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    outputs: Mapping[str, Tensor],
    sizes: Tensor,
) -> Decoded:
    """Scale detections to the pixels of the original images.

    Args:
        boxes: float32 (N, K, 4) in network pixels.
        scores: float32 (N, K).
        labels: int64 (N, K), class ids, -1 in empty slots.
        outputs: The result of ``Anchors.outputs``.
        sizes: int64 (N, 2), original heights and widths.

    Returns:
        ``boxes``, ``scores``, ``labels`` and ``count``, int64 (N,).
    """
    network, letterbox = outputs["size"], is_letterboxed(outputs)
    shown = shown_sizes(sizes, network, letterbox)
    scale = (shown / network.to(torch.float32)).flip(1).repeat(1, 2)
    boxes = boxes * scale[:, None]
    if letterbox:  # what is beside the image is no part of an object
        limit = sizes.to(torch.float32).flip(1).repeat(1, 2)
        boxes = torch.minimum(boxes, limit[:, None])
    return {
        "boxes": boxes,
        "scores": scores,
        "labels": labels,
        "count": (labels >= 0).sum(1),
    }


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Clip boxes (..., 4) to the network input of height and width ``size``."""
    limit = size.to(boxes.dtype).flip(0).repeat(2)
    return torch.minimum(boxes.clamp(min=0), limit)

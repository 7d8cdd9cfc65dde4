"""From scores of many candidates to a fixed number of detections per image.

No shape here depends on values: what is left out has score 0, and results are filled up to a fixed
length. So the same code runs in training, evaluation and in an exported graph, for any batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.plugins.detection.models.nms import nms_keep
from visiongraft.task import Decoded

NOTHING = -1  # label of an empty place


@dataclass(frozen=True)
class Limits:
    """What a detection must reach.

    Attributes:
        score: Its score must be above this, in [0, 1).
        iou: It goes if it overlaps a better one of its label by more than this, in (0, 1].
        detections: The best ones are kept, at most so many per image.
    """

    score: float
    iou: float
    detections: int


def select(boxes: Tensor, scores: Tensor, limits: Limits) -> tuple[Tensor, Tensor, Tensor]:
    """Suppress overlapping boxes, and keep the best of all labels.

    Args:
        boxes: float32 (N, M, 4) in network pixels.
        scores: float32 (N, C, M), one row per label.
        limits: What a detection must reach.

    Returns:
        Boxes (N, K, 4), scores (N, K) and labels int64 (N, K), the best first; empty places have
        score 0 and label -1.
    """
    kept = nms_keep(boxes, scores, limits.iou, limits.score).flatten(1)
    return take_best(boxes, kept, boxes.shape[1], limits.detections)


def take_best(
    boxes: Tensor, scores: Tensor, candidates: int, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the best of all labels.

    Args:
        boxes: float32 (N, M, 4), the same for each label, or (N, C * M, 4).
        scores: float32 (N, C * M), label by label, 0 for none.
        candidates: M.
        count: How many to give.

    Returns:
        As ``select``.
    """
    best, index = scores.topk(min(count, scores.shape[1]), dim=1)
    labels = torch.div(index, candidates, rounding_mode="floor")
    place = index if boxes.shape[1] == scores.shape[1] else index - labels * candidates
    chosen = boxes.gather(1, place[:, :, None].expand(-1, -1, 4))
    found = best > 0
    chosen = chosen * found[:, :, None]
    labels = torch.where(found, labels, NOTHING)
    missing = count - best.shape[1]
    if missing:
        chosen = F.pad(chosen, (0, 0, 0, missing))
        best = F.pad(best, (0, missing))
        labels = F.pad(labels, (0, missing), value=NOTHING)
    return chosen, best, labels


def strongest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the best candidates, in the order they came in.

    Suppression takes the first of equal scores first. Runtimes sort equal ones in orders of their
    own, so these are put back.

    Args:
        scores: float32 (N, M).
        count: How many to find, at most M.

    Returns:
        Scores and positions, (N, min(count, M)).
    """
    _, found = scores.topk(min(count, scores.shape[1]), dim=1)
    index, _ = found.sort(dim=1)
    return scores.gather(1, index), index


def results(
    boxes: Tensor, scores: Tensor, labels: Tensor, network: Tensor, sizes: Tensor
) -> Decoded:
    """Bring detections to the pixels of the original images.

    Args:
        boxes: float32 (N, K, 4) in network pixels.
        scores: float32 (N, K).
        labels: int64 (N, K), -1 at empty places.
        network: (2,), height and width of the network input.
        sizes: int64 (N, 2), original heights and widths.

    Returns:
        ``boxes``, ``scores``, ``labels`` and ``count``, int64 (N,).
    """
    scale = (sizes.to(torch.float32) / network.to(torch.float32)).flip(1).repeat(1, 2)
    return {
        "boxes": boxes * scale[:, None],
        "scores": scores,
        "labels": labels,
        "count": (labels >= 0).sum(1),
    }


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Cut boxes (..., 4) at the edges of the network input of height and width ``size``."""
    limit = size.to(boxes.dtype).flip(0).repeat(2)
    return torch.minimum(boxes.clamp(min=0), limit)

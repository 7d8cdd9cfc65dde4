"""Faster R-CNN's first stage: which regions the second stage sees, and on which feature map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.plugins.detection.models.anchors import level_anchors
from visiongraft.plugins.detection.models.box_coding import BoxCoder
from visiongraft.plugins.detection.models.nms import nms_keep
from visiongraft.plugins.detection.models.selection import clip, strongest

CANDIDATES = 1000  # per level, before suppression
PROPOSALS = 300  # per image; torchvision has 1000, which only large images need
OVERLAP = 0.7  # of two proposals of one level, above which the weaker is suppressed
SMALLEST = 1e-3  # pixels; narrower proposals are dropped
LEVEL_SIZE, LEVEL = 224, 4  # a region with sides of so many pixels belongs to stride 2**4
CODER = BoxCoder()


def propose(
    objectness: Tensor, codes: Tensor, outputs: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Choose proposals among the anchors.

    Args:
        objectness: Logits (N, A).
        codes: (N, A, 4).
        outputs: The result of ``Anchors.outputs``.

    Returns:
        Proposals (N, P, 4) in network pixels, and scores (N, P), 0 in empty slots.
    """
    boxes, best, level_of = [], [], []
    start = 0
    for i, anchors in enumerate(level_anchors(outputs)):
        end = start + len(anchors)
        top, index = strongest(objectness[:, start:end], CANDIDATES)
        chosen = codes[:, start:end].gather(1, index[:, :, None].expand(-1, -1, 4))
        boxes.append(CODER.decode(chosen, anchors[index]))
        best.append(above_zero(top))
        level_of.append(torch.full_like(index, i))
        start = end
    candidates = clip(torch.cat(boxes, 1), outputs["size"])
    has_area = ((candidates[..., 2:] - candidates[..., :2]) >= SMALLEST).all(2)
    scores = torch.cat(best, 1) * has_area
    marks = F.one_hot(torch.cat(level_of, 1), len(boxes)).to(scores.dtype)
    kept = nms_keep(candidates, (marks * scores[:, :, None]).transpose(1, 2), OVERLAP, 0.0).amax(1)
    scores, index = strongest(kept, PROPOSALS)
    proposals = candidates.gather(1, index[:, :, None].expand(-1, -1, 4))
    return proposals * (scores > 0)[:, :, None], scores


def above_zero(logits: Tensor) -> Tensor:
    """Map logits to 0..1, keeping their order.

    A sigmoid underflows to 0, which means "no box" here, and where it does so differs between two
    runtimes.
    """
    return 0.5 + 0.5 * logits / (1 + logits.abs())


def region_levels(boxes: Tensor, strides: Sequence[float]) -> Tensor:
    """Compute the pyramid level of each region (equation 1 of Lin et al., 2017).

    Args:
        boxes: (R, 4) in network pixels.
        strides: Of the levels, each twice the one before.

    Returns:
        int64 (R,), positions in ``strides``.
    """
    side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1).sqrt()
    level = torch.floor(LEVEL + torch.log2(side / LEVEL_SIZE + 1e-12) + 1e-6)
    finest = round(math.log2(strides[0]))
    return (level - finest).clamp(0, len(strides) - 1).to(torch.int64)

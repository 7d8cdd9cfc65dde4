"""Match anchors with objects, and sample the anchors to train on; torchvision's own are private.

A match is the position of an object, ``BACKGROUND`` or ``IGNORED``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

BACKGROUND = -1
IGNORED = -2  # neither an object nor background: takes no part in training
CENTER_RADIUS = 1.5  # strides; FCOS matches a cell with objects whose center is at most this far
LARGEST_AREA = 1e8  # square pixels; larger than any object


def match_boxes(
    boxes: Tensor, anchors: Tensor, low: float, high: float, *, keep_best: bool = False
) -> Tensor:
    """Match each anchor with the object that it overlaps most.

    Args:
        boxes: float32 (n, 4), the objects.
        anchors: float32 (A, 4).
        low: Anchors with a smaller intersection over union are background.
        high: Anchors with at least this one are matched; those in between are ignored.
        keep_best: Whether the anchors that overlap an object most are matched, too, however little
            that is.

    Returns:
        int64 (A,).
    """
    if not len(boxes):
        return anchors.new_full((len(anchors),), BACKGROUND, dtype=torch.int64)
    overlaps: Tensor = box_iou(boxes, anchors)
    best, nearest = overlaps.max(0)
    matches = nearest.masked_fill(best < low, BACKGROUND)
    matches = matches.masked_fill((best >= low) & (best < high), IGNORED)
    if not keep_best:
        return matches
    is_best = (overlaps == overlaps.amax(1, keepdim=True)).any(0)  # ties included
    return torch.where(is_best, nearest, matches)


def match_default_boxes(boxes: Tensor, anchors: Tensor, threshold: float) -> Tensor:
    """Match as ``match_boxes``; each object also gets the anchor that overlaps it most (SSD).

    Args:
        boxes: float32 (n, 4), the objects.
        anchors: float32 (A, 4).
        threshold: Least intersection over union of a match.

    Returns:
        int64 (A,).
    """
    matches = match_boxes(boxes, anchors, threshold, threshold)
    if len(boxes):
        matches[box_iou(boxes, anchors).argmax(1)] = torch.arange(len(boxes), device=boxes.device)
    return matches


def match_centers(boxes: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """Match each cell with the smallest object whose center is near and whose size fits (FCOS).

    A cell must be inside of the object, and the farthest side of the object 4 to 8 strides away;
    on the finest level also less, on the coarsest also more.

    Args:
        boxes: float32 (n, 4), the objects.
        levels: float32 (A_i, 4), square anchors as large as a cell, from fine to coarse.

    Returns:
        int64 (sum of A_i,).
    """
    anchors = torch.cat(list(levels))
    if not len(boxes):
        return anchors.new_full((len(anchors),), BACKGROUND, dtype=torch.int64)
    strides = anchors[:, 2] - anchors[:, 0]
    cells = ((anchors[:, :2] + anchors[:, 2:]) / 2)[:, None]
    low, high = boxes[:, :2], boxes[:, 2:]
    offsets = (cells - (low + high) / 2).abs().amax(2)
    distances = torch.cat([cells - low, high - cells], 2)  # (A, n, 4)
    farthest = distances.amax(2)
    least, most = strides * 4, strides * 8
    least[: len(levels[0])] = 0
    most[-len(levels[-1]) :] = torch.inf
    fits = (
        (offsets < CENTER_RADIUS * strides[:, None])
        & (distances.amin(2) > 0)
        & (farthest > least[:, None])
        & (farthest < most[:, None])
    )
    score, matches = (fits * (LARGEST_AREA - (high - low).prod(1))).max(1)
    return matches.masked_fill(score < 1e-5, BACKGROUND)


def take_matched(values: Tensor, matches: Tensor) -> Tensor:
    """Take the value of each anchor's object.

    Args:
        values: (n, ...), one row per object.
        matches: int64 (A,).

    Returns:
        (A, ...); arbitrary rows where nothing is matched.
    """
    if not len(values):
        return values.new_zeros(len(matches), *values.shape[1:])
    return values[matches.clamp(min=0)]


class Sampler(nn.Module):
    """Sample objects and background at random to train on; in evaluation at even distances.

    Thus the loss of an image in evaluation does not depend on the rest of its batch.

    Args:
        count: How many to sample per image.
        fraction: At most this fraction of them are objects.
    """

    def __init__(self, count: int, fraction: float) -> None:
        super().__init__()
        self.count, self.fraction = count, fraction

    def forward(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Sample among the anchors or regions of one image.

        Args:
            classes: (A,), 1 or more for objects, 0 for background, negative for what is ignored.

        Returns:
            Masks, bool (A,), of the objects and of the background sampled.
        """
        objects = self._choose(torch.where(classes >= 1)[0], int(self.count * self.fraction))
        others = self._choose(torch.where(classes == 0)[0], self.count - len(objects))
        nothing = torch.zeros_like(classes, dtype=torch.bool)
        return nothing.index_fill(0, objects, True), nothing.index_fill(0, others, True)

    def _choose(self, positions: Tensor, count: int) -> Tensor:
        if self.training:
            return positions[torch.randperm(len(positions), device=positions.device)[:count]]
        if len(positions) <= count:
            return positions
        even = torch.arange(count, device=positions.device) * len(positions) // count
        return positions[even]

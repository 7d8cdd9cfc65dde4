"""What RetinaNet and FCOS share: decoding the predictions of all cells of a pyramid."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.plugins.detection.models.anchors import level_anchors
from visiongraft.plugins.detection.models.selection import Limits, clip, results, select, strongest
from visiongraft.task import Decoded

STRIDE = 8  # of the finest level, in pixels
CANDIDATES = 1000  # per level, before suppression


def decode_dense(
    outputs: Mapping[str, Tensor],
    scores: Tensor,
    decode_boxes: Callable[[Tensor, Tensor], Tensor],
    sizes: Tensor,
    limits: Limits,
) -> Decoded:
    """Take the best candidates of each level, and select among them.

    Args:
        outputs: ``bbox_regression`` (N, A, 4), and the result of ``Anchors.outputs``.
        scores: float32 (N, A, classes), in 0..1.
        decode_boxes: Computes boxes from codes and anchors.
        sizes: int64 (N, 2), original heights and widths.
        limits: What a detection must reach.

    Returns:
        See ``selection.results``.
    """
    codes = outputs["bbox_regression"].float()
    classes = scores.shape[2]
    boxes, best, class_ids = [], [], []
    start = 0
    for anchors in level_anchors(outputs):
        end = start + len(anchors)
        top, index = strongest(scores[:, start:end].flatten(1), CANDIDATES)
        cell = torch.div(index, classes, rounding_mode="floor")
        chosen = codes[:, start:end].gather(1, cell[:, :, None].expand(-1, -1, 4))
        boxes.append(decode_boxes(chosen, anchors[cell]))
        best.append(top)
        class_ids.append(index - cell * classes)
        start = end
    marks = F.one_hot(torch.cat(class_ids, 1), classes).to(torch.float32)
    by_class = (marks * torch.cat(best, 1)[:, :, None]).transpose(1, 2)
    selected = select(clip(torch.cat(boxes, 1), outputs["size"]), by_class, limits)
    return results(*selected, outputs, sizes)

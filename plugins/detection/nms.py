"""Non-maximum suppression that keeps its shape, so that a graph with it takes any batch.

torchvision's own gives as many boxes as are left, which no exporter can follow through a batch.
This one sets the scores of suppressed boxes to 0 instead. In PyTorch it runs torchvision's, in ONNX
it is the native ``NonMaxSuppression``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

UNLIMITED = 2**31 - 1  # boxes per class; ONNX takes 0 for none at all


@torch.library.custom_op("visiongraft_detection::nms_keep", mutates_args=())
def nms_keep(boxes: Tensor, scores: Tensor, iou: float, threshold: float) -> Tensor:
    """Suppress boxes that overlap one of a higher score in the same class.

    Args:
        boxes: float32 (N, M, 4), corners.
        scores: float32 (N, C, M), above 0 or 0 for none.
        iou: A box goes if its intersection over union with a better one is above this.
        threshold: Scores up to this count as none, at least 0.

    Returns:
        float32 (N, C, M): the scores that are left, 0 elsewhere.
    """
    kept = torch.zeros_like(scores)
    for picture, label in (scores > threshold).any(2).nonzero().tolist():
        candidates = (scores[picture, label] > threshold).nonzero()[:, 0]
        chosen = nms(boxes[picture, candidates], scores[picture, label, candidates], iou)
        left = candidates[chosen]
        kept[picture, label, left] = scores[picture, label, left]
    return kept


@nms_keep.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float, threshold: float) -> Tensor:
    return torch.empty_like(scores)


def onnx_operators() -> dict[Any, Callable[..., Any]]:
    """Give the ONNX form of ``nms_keep``, for ``torch.onnx.export``'s translation table."""
    from onnxscript import opset18

    op: Any = opset18  # its types take no constants

    def nms_keep_onnx(boxes: Any, scores: Any, iou: float, threshold: float) -> Any:
        selected = op.NonMaxSuppression(
            boxes,
            scores,
            op.Constant(value_ints=[UNLIMITED]),
            op.Constant(value_floats=[iou]),
            op.Constant(value_floats=[threshold]),
        )  # rows of picture, class, box
        nothing = op.Mul(scores, op.Constant(value_float=0.0))
        return op.ScatterND(nothing, selected, op.GatherND(scores, selected))

    return {torch.ops.visiongraft_detection.nms_keep.default: nms_keep_onnx}

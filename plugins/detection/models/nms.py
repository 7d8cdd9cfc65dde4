"""Non-maximum suppression of fixed output shape, so that it can be exported with any batch size.

torchvision's own returns as many boxes as are left, which no exporter can trace through a batch.
This one sets the scores of suppressed boxes to 0 instead. In PyTorch it runs torchvision's, in ONNX
it is the native ``NonMaxSuppression``, and in an exported program a loop around torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops import while_loop
from torchvision.ops import nms

UNLIMITED = 2**31 - 1  # boxes per class; in ONNX, 0 means none at all


@torch.library.custom_op("visiongraft_detection::nms_keep", mutates_args=())
def nms_keep(boxes: Tensor, scores: Tensor, iou: float, threshold: float) -> Tensor:
    """Suppress boxes that overlap one of a higher score in the same class.

    Args:
        boxes: float32 (N, M, 4), corners.
        scores: float32 (N, C, M), above 0, or 0 for no box.
        iou: A box is suppressed if its intersection over union with a better one is above this.
        threshold: Scores up to this count as no box, at least 0.

    Returns:
        float32 (N, C, M): the scores of the boxes kept, 0 elsewhere.
    """
    kept = torch.zeros_like(scores)
    for image, class_id in (scores > threshold).any(2).nonzero().tolist():
        candidates = (scores[image, class_id] > threshold).nonzero()[:, 0]
        chosen = nms(boxes[image, candidates], scores[image, class_id, candidates], iou)
        left = candidates[chosen]
        kept[image, class_id, left] = scores[image, class_id, left]
    return kept


@nms_keep.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float, threshold: float) -> Tensor:
    return torch.empty_like(scores)


def _keep_outputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Pass gradients on to the scores that were kept, for explanations of detections."""
    (kept,) = ctx.saved_tensors
    return None, gradient * (kept > 0), None, None


nms_keep.register_autograd(_gradient, setup_context=_keep_outputs)


def onnx_operators() -> dict[Any, Callable[..., Any]]:
    """Return ``nms_keep`` in ONNX, for ``torch.onnx.export``'s ``custom_translation_table``."""
    from onnxscript import opset18

    op: Any = opset18  # its type annotations do not accept constants

    def nms_keep_onnx(boxes: Any, scores: Any, iou: float, threshold: float) -> Any:
        selected = op.NonMaxSuppression(
            boxes,
            scores,
            op.Constant(value_ints=[UNLIMITED]),
            op.Constant(value_floats=[iou]),
            op.Constant(value_floats=[threshold]),
        )  # rows of image, class, box
        nothing = op.Mul(scores, op.Constant(value_float=0.0))
        return op.ScatterND(nothing, selected, op.GatherND(scores, selected))

    return {torch.ops.visiongraft_detection.nms_keep.default: nms_keep_onnx}


def torch_operators() -> dict[Any, Callable[..., Any]]:
    """Return ``nms_keep`` in operators of PyTorch and torchvision, for ``run_decompositions``."""
    return {torch.ops.visiongraft_detection.nms_keep.default: _nms_keep_traced}


def _nms_keep_traced(boxes: Tensor, scores: Tensor, iou: float, threshold: float) -> Tensor:
    """Compute ``nms_keep`` traceably, one image and class after the other.

    In tracing, torchvision assumes that at least two boxes are left. So two boxes of no size and no
    score are added each time, which overlap nothing; they are dropped at the end.
    """
    classes, count = scores.shape[1], scores.shape[2]
    flat = scores.reshape(-1)
    index = (flat > threshold).nonzero()[:, 0]
    group = index // count  # image and class
    box = boxes.reshape(-1, 4)[group // classes * count + index % count]
    box = torch.cat([box, boxes.new_zeros(2, 4)])
    score = torch.cat([flat[index], scores.new_zeros(2)])
    group = torch.cat([group, group.new_full((2,), -1)])
    groups = (scores > threshold).any(2).reshape(-1).nonzero()[:, 0]

    def more(step: Tensor, kept: Tensor) -> Tensor:
        return (step < groups.shape[0]).all()

    def suppress(step: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        own = ((group == groups.index_select(0, step)) | (group < 0)).nonzero()[:, 0]
        left = nms(box.index_select(0, own), score.index_select(0, own), iou)
        return step + 1, kept.scatter(0, own.index_select(0, left), 1.0)

    start = torch.zeros(1, dtype=torch.int64, device=boxes.device)
    _, kept = while_loop(more, suppress, (start, torch.zeros_like(score)))
    return torch.zeros_like(flat).scatter(0, index, (score * kept)[:-2]).reshape(scores.shape)

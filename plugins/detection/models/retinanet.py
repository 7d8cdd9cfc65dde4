"""RetinaNet: one pair of small networks over all levels of a pyramid, with a focal loss.

Lin et al., 2017, "Focal loss for dense object detection". The layers and anchors are torchvision's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import generalized_box_iou_loss

from visiongraft.backbone import Backbone, Features
from visiongraft.plugins.detection.models.anchors import Anchors, by_anchor, level_anchors
from visiongraft.plugins.detection.models.box_coding import BoxCoder
from visiongraft.plugins.detection.models.dense import STRIDE, decode_dense
from visiongraft.plugins.detection.models.losses import Terms, focal_loss
from visiongraft.plugins.detection.models.matching import match_boxes
from visiongraft.plugins.detection.models.pyramid import FeaturePyramid
from visiongraft.plugins.detection.models.selection import Limits
from visiongraft.task import Decoded
from visiongraft.task_contract.class_rows import ClassRows

CODER = BoxCoder()
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)
ANCHORS = len(SCALES) * len(RATIOS)  # per cell
ANCHOR = 4  # strides; the smallest anchor of a level
GROUPS = 32  # of group norm in the head: without it, a few hundred steps learn little
LOW, HIGH = 0.4, 0.5  # intersection over union: background below, a match from here on


class RetinaNetLayers(nn.Module):
    """RetinaNet's head on a pyramid.

    Args:
        backbone: Computes the feature maps.
        classes: Number of classes.
        width: Channels of the pyramid, a multiple of 32.
    """

    def __init__(self, backbone: Backbone, classes: int, width: int) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(backbone, width, STRIDE, further="deepest")
        levels = self.pyramid.levels
        sizes = tuple(tuple(int(ANCHOR * g.stride * s) for s in SCALES) for g in levels)
        generator = AnchorGenerator(sizes, (RATIOS,) * len(levels))
        self.anchors = Anchors(generator, levels, backbone.info.preprocess)
        norm = partial(nn.GroupNorm, GROUPS)
        self.head = RetinaNetHead(width, ANCHORS, classes, norm_layer=norm)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Predict for each anchor.

        Args:
            features: The backbone's; its feature maps are used.

        Returns:
            ``cls_logits`` (N, A, classes), ``bbox_regression`` (N, A, 4), and the result of
            ``Anchors.outputs``.
        """
        classes, boxes = self.head.classification_head, self.head.regression_head
        maps = self.pyramid(features)
        logits = [by_anchor(classes.cls_logits(classes.conv(x)), classes.num_classes) for x in maps]
        codes = [by_anchor(boxes.bbox_reg(boxes.conv(x)), 4) for x in maps]
        return {
            "cls_logits": torch.cat(logits, 1),
            "bbox_regression": torch.cat(codes, 1),
            **self.anchors.outputs(),
        }

    def class_rows(self, names: tuple[str, ...]) -> dict[str, ClassRows]:
        """Return where the classes are; see ``Task.class_rows``."""
        layer, rows = "head.classification_head.cls_logits", ClassRows(names, groups=ANCHORS)
        return {f"{layer}.{kind}": rows for kind in ("weight", "bias")}


def retinanet_loss(
    outputs: Mapping[str, Tensor], image: int, objects: Mapping[str, Tensor]
) -> Terms:
    """Compute the loss terms of one image.

    Args:
        outputs: The result of ``RetinaNetLayers``.
        image: Position of the image.
        objects: Its objects, ``boxes`` in network pixels and ``labels``.

    Returns:
        ``classification``: focal loss; ``bbox_regression``: GIoU, as in torchvision's second
        version.
    """
    anchors = torch.cat(level_anchors(outputs))
    logits = outputs["cls_logits"][image].float()
    codes = outputs["bbox_regression"][image].float()
    matches = match_boxes(objects["boxes"], anchors, LOW, HIGH, keep_best=True)
    matched = matches >= 0
    count = matched.sum().clamp(min=1)
    boxes = CODER.decode(codes[matched], anchors[matched])
    truth = objects["boxes"][matches[matched]]
    return {
        "classification": focal_loss(logits, objects["labels"], matches) / count,
        "bbox_regression": generalized_box_iou_loss(boxes, truth, reduction="sum") / count,
    }


def decode_retinanet(outputs: Mapping[str, Tensor], sizes: Tensor, limits: Limits) -> Decoded:
    """Turn the outputs of ``RetinaNetLayers`` into detections; see ``selection.results``."""
    scores = outputs["cls_logits"].float().sigmoid()
    return decode_dense(outputs, scores, CODER.decode, sizes, limits)

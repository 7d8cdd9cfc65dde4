"""FCOS: one pair of small networks over all cells of a pyramid, without anchor boxes.

Tian et al., 2019, "FCOS: Fully convolutional one-stage object detection". The layers are
torchvision's, which calls a cell's square an anchor.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import generalized_box_iou_loss

from visiongraft.backbone import Backbone, Features
from visiongraft.plugins.detection.models.anchors import Anchors, by_anchor, level_anchors
from visiongraft.plugins.detection.models.box_coding import decode_distances
from visiongraft.plugins.detection.models.dense import STRIDE, decode_dense
from visiongraft.plugins.detection.models.losses import Terms, focal_loss
from visiongraft.plugins.detection.models.matching import match_centers
from visiongraft.plugins.detection.models.pyramid import FeaturePyramid
from visiongraft.plugins.detection.models.selection import Limits
from visiongraft.task import Decoded
from visiongraft.task_contract.class_rows import ClassRows

INITIAL_DISTANCE = 2.0  # strides; predicted distance of each side before training


class FcosLayers(nn.Module):
    """FCOS' head on a pyramid.

    Args:
        backbone: Computes the feature maps.
        classes: Number of classes.
        width: Channels of the pyramid, a multiple of 32.
    """

    def __init__(self, backbone: Backbone, classes: int, width: int) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(backbone, width, STRIDE, further="last")
        levels = self.pyramid.levels
        sizes = tuple((int(level.stride),) for level in levels)
        generator = AnchorGenerator(sizes, ((1.0,),) * len(levels))
        self.anchors = Anchors(generator, levels, backbone.info.preprocess)
        self.head = FCOSHead(width, 1, classes)
        # Distances end in a ReLU, which a bias of 0 leaves dead for good on some datasets.
        nn.init.constant_(self.head.regression_head.bbox_reg.bias, INITIAL_DISTANCE)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Predict for each cell.

        Args:
            features: The backbone's; its feature maps are used.

        Returns:
            ``cls_logits`` (N, A, classes), ``bbox_regression`` (N, A, 4) of 0 and above,
            ``bbox_ctrness`` (N, A, 1), and the result of ``Anchors.outputs``.
        """
        classes, boxes = self.head.classification_head, self.head.regression_head
        logits, codes, centerness = [], [], []
        for x in self.pyramid(features):
            logits.append(by_anchor(classes.cls_logits(classes.conv(x)), classes.num_classes))
            shared = boxes.conv(x)
            codes.append(by_anchor(F.relu(boxes.bbox_reg(shared)), 4))
            centerness.append(by_anchor(boxes.bbox_ctrness(shared), 1))
        return {
            "cls_logits": torch.cat(logits, 1),
            "bbox_regression": torch.cat(codes, 1),
            "bbox_ctrness": torch.cat(centerness, 1),
            **self.anchors.outputs(),
        }

    def class_rows(self, names: tuple[str, ...]) -> dict[str, ClassRows]:
        """Return where the classes are; see ``Task.class_rows``."""
        layer = "head.classification_head.cls_logits"
        return {f"{layer}.{kind}": ClassRows(names) for kind in ("weight", "bias")}


def fcos_loss(outputs: Mapping[str, Tensor], image: int, objects: Mapping[str, Tensor]) -> Terms:
    """Compute the loss terms of one image.

    Args:
        outputs: The result of ``FcosLayers``.
        image: Position of the image.
        objects: Its objects, ``boxes`` in network pixels and ``labels``.

    Returns:
        ``classification``: focal loss; ``bbox_regression``: GIoU; ``bbox_ctrness``:
        cross-entropy on the centerness.
    """
    levels = level_anchors(outputs)
    matches = match_centers(objects["boxes"], levels)
    matched = matches >= 0
    count = matched.sum().clamp(min=1)
    anchors = torch.cat(levels)[matched]
    truth = objects["boxes"][matches[matched]]
    boxes = decode_distances(outputs["bbox_regression"][image][matched].float(), anchors)
    centerness = F.binary_cross_entropy_with_logits(
        outputs["bbox_ctrness"][image, :, 0][matched].float(),
        _centerness(truth, anchors),
        reduction="sum",
    )
    logits = outputs["cls_logits"][image].float()
    return {
        "classification": focal_loss(logits, objects["labels"], matches) / count,
        "bbox_regression": generalized_box_iou_loss(boxes, truth, reduction="sum") / count,
        "bbox_ctrness": centerness / count,
    }


def _centerness(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Compute how central cells are in their objects: 1 in the middle, 0 at a side."""
    centers = 0.5 * (anchors[:, :2] + anchors[:, 2:])
    low, high = centers - boxes[:, :2], boxes[:, 2:] - centers
    return (torch.minimum(low, high) / torch.maximum(low, high)).prod(1).sqrt()


def decode_fcos(outputs: Mapping[str, Tensor], sizes: Tensor, limits: Limits) -> Decoded:
    """Turn the outputs of ``FcosLayers`` into detections; see ``selection.results``."""
    logits, centerness = outputs["cls_logits"].float(), outputs["bbox_ctrness"].float()
    scores = (logits.sigmoid() * centerness.sigmoid()).sqrt()
    return decode_dense(outputs, scores, decode_distances, sizes, limits)

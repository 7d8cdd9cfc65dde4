"""RetinaNet and FCOS: one pair of small networks over all maps of a pyramid, with a focal loss.

Lin et al., 2017, "Focal loss for dense object detection"; Tian et al., 2019, "FCOS: Fully
convolutional one-stage object detection". The layers, anchors and loss terms are torchvision's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.retinanet import (
    RetinaNet,
    RetinaNetClassificationHead,
    RetinaNetHead,
    RetinaNetRegressionHead,
)

from visiongraft.backbone import Backbone, Features
from visiongraft.plugins.detection.models.anchors import Anchors, by_anchor, level_anchors
from visiongraft.plugins.detection.models.pyramid import FeaturePyramid
from visiongraft.plugins.detection.models.selection import Limits, clip, results, select, strongest
from visiongraft.plugins.detection.objects import scaled_boxes
from visiongraft.task import Decoded

STRIDE = 8
CANDIDATES = 1000  # per level, before suppression
CODER = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
LINEAR_CODER = BoxLinearCoder(normalize_by_size=True)
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)
GROUPS = 32  # of group norm in the head: without it, a few hundred steps learn little
ANCHOR = 4  # strides; RetinaNet's smallest anchor of a level
REACH = 2.0  # strides; how far FCOS believes the sides of an object to be before it has learned
CENTER = 1.5  # strides; a cell of FCOS answers for an object whose center is at most this far


class RetinaNetLayers(nn.Module):
    """RetinaNet's head on a pyramid.

    Args:
        backbone: Gives the maps.
        labels: Number of labels.
        width: Channels of the pyramid, a multiple of 32.
    """

    def __init__(self, backbone: Backbone, labels: int, width: int) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(backbone, width, STRIDE, further="deepest")
        levels = self.pyramid.levels
        sizes = tuple(tuple(int(ANCHOR * g.stride * s) for s in SCALES) for g in levels)
        generator = AnchorGenerator(sizes, (RATIOS,) * len(levels))
        self.anchors = Anchors(generator, levels, backbone.info.preprocess.size)
        norm = partial(nn.GroupNorm, GROUPS)
        self.head = RetinaNetHead(width, len(SCALES) * len(RATIOS), labels, norm_layer=norm)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Predict for each anchor.

        Args:
            features: Their maps are used.

        Returns:
            ``cls_logits`` (N, A, labels), ``bbox_regression`` (N, A, 4), and what
            ``Anchors.outputs`` gives.
        """
        labels, boxes = self.head.classification_head, self.head.regression_head
        maps = self.pyramid(features)
        logits = [by_anchor(labels.cls_logits(labels.conv(x)), labels.num_classes) for x in maps]
        codes = [by_anchor(boxes.bbox_reg(boxes.conv(x)), 4) for x in maps]
        return {
            "cls_logits": torch.cat(logits, 1),
            "bbox_regression": torch.cat(codes, 1),
            **self.anchors.outputs(),
        }


class RetinaNetLoss(nn.Module):
    """Focal loss on the labels and GIoU on the boxes, as in torchvision's second version."""

    def __init__(self) -> None:
        super().__init__()
        self.matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)

    def forward(
        self, outputs: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            outputs: What ``RetinaNetLayers`` gave.
            targets: What ``Objects.tensors`` gave, one for each image.

        Returns:
            ``classification`` and ``bbox_regression``, means over the images.
        """
        anchors = torch.cat(level_anchors(outputs))
        own = [scaled_boxes(target, outputs["size"]) for target in targets]
        raw = {name: outputs[name].float() for name in ("cls_logits", "bbox_regression")}
        # torchvision's terms, without the layers and the model around them.
        labels: Any = SimpleNamespace(BETWEEN_THRESHOLDS=Matcher.BETWEEN_THRESHOLDS)
        boxes: Any = SimpleNamespace(_loss_type="giou", box_coder=CODER)
        labels.compute_loss = lambda *a: RetinaNetClassificationHead.compute_loss(labels, *a)
        boxes.compute_loss = lambda *a: RetinaNetRegressionHead.compute_loss(boxes, *a)
        head: Any = SimpleNamespace(classification_head=labels, regression_head=boxes)
        head.compute_loss = lambda *a: RetinaNetHead.compute_loss(head, *a)
        model: Any = SimpleNamespace(head=head, proposal_matcher=self.matcher)
        parts: dict[str, Tensor] = RetinaNet.compute_loss(model, own, raw, [anchors] * len(own))
        return parts


class FcosLayers(nn.Module):
    """FCOS' head on a pyramid.

    Args:
        backbone: Gives the maps.
        labels: Number of labels.
        width: Channels of the pyramid, a multiple of 32.
    """

    def __init__(self, backbone: Backbone, labels: int, width: int) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(backbone, width, STRIDE, further="last")
        levels = self.pyramid.levels
        sizes = tuple((int(level.stride),) for level in levels)
        generator = AnchorGenerator(sizes, ((1.0,),) * len(levels))
        self.anchors = Anchors(generator, levels, backbone.info.preprocess.size)
        self.head = FCOSHead(width, 1, labels)
        # Distances end in a ReLU, which bias 0 leaves shut for good on some data.
        nn.init.constant_(self.head.regression_head.bbox_reg.bias, REACH)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Predict for each cell.

        Args:
            features: Their maps are used.

        Returns:
            ``cls_logits`` (N, A, labels), ``bbox_regression`` (N, A, 4) of 0 and above,
            ``bbox_ctrness`` (N, A, 1), and what ``Anchors.outputs`` gives.
        """
        labels, boxes = self.head.classification_head, self.head.regression_head
        logits, codes, centers = [], [], []
        for x in self.pyramid(features):
            logits.append(by_anchor(labels.cls_logits(labels.conv(x)), labels.num_classes))
            shared = boxes.conv(x)
            codes.append(by_anchor(F.relu(boxes.bbox_reg(shared)), 4))
            centers.append(by_anchor(boxes.bbox_ctrness(shared), 1))
        return {
            "cls_logits": torch.cat(logits, 1),
            "bbox_regression": torch.cat(codes, 1),
            "bbox_ctrness": torch.cat(centers, 1),
            **self.anchors.outputs(),
        }


class FcosLoss(nn.Module):
    """Focal loss on the labels, GIoU on the boxes, cross-entropy on centers, as in torchvision.

    torchvision divides the sums over a batch by all its matched cells. Here each image's sums are
    divided by its own, and images are averaged: only so do accumulated gradients and several
    processes give what one large batch gives. For a single image the two are the same.
    """

    def forward(
        self, outputs: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            outputs: What ``FcosLayers`` gave.
            targets: What ``Objects.tensors`` gave, one for each image.

        Returns:
            ``classification``, ``bbox_regression`` and ``bbox_ctrness``, means over the images.
        """
        levels = level_anchors(outputs)
        anchors, counts = torch.cat(levels), [len(level) for level in levels]
        # torchvision's terms, without the layers and the model around them.
        head: Any = SimpleNamespace(box_coder=LINEAR_CODER)
        head.compute_loss = lambda *a: FCOSHead.compute_loss(head, *a)
        model: Any = SimpleNamespace(head=head, center_sampling_radius=CENTER)
        names = ("cls_logits", "bbox_regression", "bbox_ctrness")
        sums: dict[str, list[Tensor]] = {}
        for i, target in enumerate(targets):
            own = scaled_boxes(target, outputs["size"])
            one = {name: outputs[name][i : i + 1].float() for name in names}
            for name, part in FCOS.compute_loss(model, [own], one, [anchors], counts).items():
                sums.setdefault(name, []).append(part)
        return {name: torch.stack(parts).mean() for name, parts in sums.items()}


def decode_retinanet(outputs: Mapping[str, Tensor], sizes: Tensor, limits: Limits) -> Decoded:
    """Turn the outputs of ``RetinaNetLayers`` into detections; see ``selection.results``."""
    scores = outputs["cls_logits"].float().sigmoid()
    return _decode(outputs, scores, _decode_codes, sizes, limits)


def decode_fcos(outputs: Mapping[str, Tensor], sizes: Tensor, limits: Limits) -> Decoded:
    """Turn the outputs of ``FcosLayers`` into detections; see ``selection.results``."""
    labels, centers = outputs["cls_logits"].float(), outputs["bbox_ctrness"].float()
    scores = (labels.sigmoid() * centers.sigmoid()).sqrt()
    return _decode(outputs, scores, LINEAR_CODER.decode, sizes, limits)


def _decode_codes(codes: Tensor, anchors: Tensor) -> Tensor:
    flat: Tensor = CODER.decode_single(codes.reshape(-1, 4), anchors.reshape(-1, 4))
    return flat.reshape(codes.shape)


def _decode(
    outputs: Mapping[str, Tensor], scores: Tensor, decode: Any, sizes: Tensor, limits: Limits
) -> Decoded:
    """Take the best candidates of each level, and select among them."""
    codes = outputs["bbox_regression"].float()
    labels = scores.shape[2]
    boxes, best, names = [], [], []
    start = 0
    for anchors in level_anchors(outputs):
        end = start + len(anchors)
        level = scores[:, start:end].flatten(1)
        top, index = strongest(level, CANDIDATES)
        cell = torch.div(index, labels, rounding_mode="floor")
        chosen = codes[:, start:end].gather(1, cell[:, :, None].expand(-1, -1, 4))
        boxes.append(decode(chosen, anchors[cell]))
        best.append(top)
        names.append(index - cell * labels)
        start = end
    marks = F.one_hot(torch.cat(names, 1), labels).to(torch.float32)
    by_label = (marks * torch.cat(best, 1)[:, :, None]).transpose(1, 2)
    found = select(clip(torch.cat(boxes, 1), outputs["size"]), by_label, limits)
    return results(*found, outputs["size"], sizes)

"""SSD and SSDLite: boxes straight from several feature maps, with a softmax over the labels.

Liu et al., 2016, "SSD: Single shot multibox detector"; Howard et al., 2019, "Searching for
MobileNetV3" (SSDLite). The layers, default boxes and loss terms are torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDHead, SSDScoringHead
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block, _normal_init
from torchvision.ops import box_iou

from visiongraft.backbone import Backbone, Features
from visiongraft.plugins.detection.models.anchors import (
    Anchors,
    by_anchor,
    level_anchors,
)
from visiongraft.plugins.detection.models.maps import Level, Maps
from visiongraft.plugins.detection.models.selection import Limits, clip, results, select
from visiongraft.plugins.detection.objects import scaled_boxes
from visiongraft.task import Decoded

CODER = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
MAPS = 6
EXTRA_WIDTHS = (512, 256, 256, 128, 128)
NEGATIVES = 3.0  # background boxes for each matched one, the hardest
MATCHED = 0.5  # intersection over union of a default box with its object


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that takes a single value too, which the 1x1 map of one image is."""

    def forward(self, values: Tensor) -> Tensor:
        if self.training and values.numel() == values.shape[1]:
            return F.batch_norm(
                values,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                False,
                0.0,
                self.eps,
            )
        result: Tensor = super().forward(values)
        return result


class SsdHead(nn.Module):
    """Further maps below the backbone's, and one convolution on each map for labels and boxes.

    Args:
        backbone: Gives the first maps.
        labels: Number of labels.
        lite: Depthwise convolutions, from stride 16 on, instead of full ones from stride 8 on.
    """

    def __init__(self, backbone: Backbone, labels: int, lite: bool) -> None:
        super().__init__()
        self.maps = Maps(backbone, 16 if lite else 8)
        size = backbone.info.preprocess.size
        # In torchvision 0.03: too slow for the few hundred steps that fine-tuning takes.
        norm = partial(BatchNorm, eps=0.001, momentum=0.1)
        levels = list(self.maps.levels)
        self.extra = nn.ModuleList()
        for width in EXTRA_WIDTHS[: max(MAPS - len(levels), 0)]:
            last = levels[-1]
            if last.grid == (1, 1):
                break
            block = _extra_block(last.channels, width, norm) if lite else _plain(last, width)
            self.extra.append(block)
            height, width_ = ((n + 1) // 2 for n in last.grid)
            levels.append(Level(width, last.stride * 2, (height, width_)))
        if lite:
            _normal_init(self.extra)
        generator = lite_boxes(levels) if lite else default_boxes(levels, bool(self.extra))
        self.anchors = Anchors(generator, levels, size)
        channels = [level.channels for level in levels]
        per_cell = generator.num_anchors_per_location()
        self.head = (
            SSDLiteHead(channels, per_cell, labels + 1, norm)
            if lite
            else SSDHead(channels, per_cell, labels + 1)
        )

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Predict for each default box.

        Args:
            features: Their maps are used.

        Returns:
            ``cls_logits`` (N, A, labels + 1), the first of them for background,
            ``bbox_regression`` (N, A, 4), and what ``Anchors.outputs`` gives.
        """
        maps = self.maps(features)
        for block in self.extra:
            maps.append(block(maps[-1]))
        return {
            "cls_logits": self._predict(self.head.classification_head, maps),
            "bbox_regression": self._predict(self.head.regression_head, maps),
            **self.anchors.outputs(),
        }

    def _predict(self, head: SSDScoringHead, maps: Sequence[Tensor]) -> Tensor:
        """Apply a layer to each map; torchvision's own forward takes no batch of no images."""
        layers = zip(head.module_list, maps, strict=True)
        return torch.cat([by_anchor(layer(x), head.num_columns) for layer, x in layers], dim=1)


class SsdLoss(nn.Module):
    """Cross-entropy with hard negatives, and smooth L1 on the boxes, as in torchvision.

    torchvision divides the sums over a batch by all its matched boxes. Here each image's sums are
    divided by its own, and images are averaged: only so do accumulated gradients and several
    processes give what one large batch gives. For a single image the two are the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.matcher = SSDMatcher(MATCHED)

    def forward(
        self, outputs: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            outputs: What ``SsdHead`` gave.
            targets: What ``Objects.tensors`` gave, one for each image.

        Returns:
            ``classification`` and ``bbox_regression``, means over the images.
        """
        anchors = torch.cat(level_anchors(outputs))
        logits, boxes = outputs["cls_logits"].float(), outputs["bbox_regression"].float()
        # torchvision's terms, without the model around them.
        terms: Any = SimpleNamespace(box_coder=CODER, neg_to_pos_ratio=NEGATIVES)
        sums: dict[str, list[Tensor]] = {"classification": [], "bbox_regression": []}
        for i, target in enumerate(targets):
            own = scaled_boxes(target, outputs["size"])
            own["labels"] = own["labels"] + 1
            one = {"cls_logits": logits[i : i + 1], "bbox_regression": boxes[i : i + 1]}
            matched = [self._match(own["boxes"], anchors)]
            for name, part in SSD.compute_loss(terms, [own], one, [anchors], matched).items():
                sums[name].append(part)
        return {name: torch.stack(parts).mean() for name, parts in sums.items()}

    def _match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        matched: Tensor = self.matcher(box_iou(boxes, anchors))
        return matched


def decode_ssd(outputs: Mapping[str, Tensor], sizes: Tensor, limits: Limits) -> Decoded:
    """Turn the outputs of ``SsdHead`` into detections; see ``selection.results``.

    torchvision's limit of 400 candidates a label before suppression is not drawn: a rank among so
    many nearly equal scores is not the same in two runtimes.
    """
    anchors = torch.cat(level_anchors(outputs))
    codes = outputs["bbox_regression"].float()
    boxes = CODER.decode_single(
        codes.reshape(-1, 4), anchors.expand(codes.shape[0], -1, -1).reshape(-1, 4)
    ).reshape(codes.shape)
    scores = outputs["cls_logits"].float().softmax(2)[:, :, 1:].transpose(1, 2)
    found = select(clip(boxes, outputs["size"]), scores, limits)
    return results(*found, outputs["size"], sizes)


def lite_boxes(levels: Sequence[Level]) -> DefaultBoxGenerator:
    """Give SSDLite's default boxes: from 20 to 95 % of the input, of ratios 1, 2 and 3."""
    return DefaultBoxGenerator([[2, 3] for _ in levels], min_ratio=0.2, max_ratio=0.95)


def default_boxes(levels: Sequence[Level], extended: bool) -> DefaultBoxGenerator:
    """Give SSD's default boxes: 7 % of the input on the finest map, 15 to 87 % on the others.

    Args:
        levels: The maps.
        extended: Whether some are not the backbone's. Their cells are spread evenly over the input;
            those of backbones are their stride apart.
    """
    others = len(levels) - 1
    step = (0.87 - 0.15) / max(others - 1, 1)
    scales = [0.07, *(0.15 + step * i for i in range(others)), 1.05]
    few = {0, others - 1, others}
    ratios = [[2] if i in few else [2, 3] for i in range(len(levels))]
    steps = None if extended else [level.stride for level in levels]
    return DefaultBoxGenerator(ratios, scales=scales, steps=steps)


def _plain(last: Level, width: int) -> nn.Module:
    layers = nn.Sequential(
        nn.Conv2d(last.channels, width // 2, 1),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        nn.ReLU(),
    )
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(2))
    return layers

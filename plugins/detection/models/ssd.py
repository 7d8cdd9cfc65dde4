"""SSD and SSDLite: boxes straight from several feature maps, with a softmax over the classes.

Liu et al., 2016, "SSD: Single shot multibox detector"; Howard et al., 2019, "Searching for
MobileNetV3" (SSDLite). The layers and default boxes are torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSDHead, SSDScoringHead
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import Conv2dNormActivation

from visiongraft.backbone import Backbone, Features
from visiongraft.plugins.detection.models.anchors import (
    Anchors,
    by_anchor,
    level_anchors,
)
from visiongraft.plugins.detection.models.box_coding import BoxCoder
from visiongraft.plugins.detection.models.losses import Terms
from visiongraft.plugins.detection.models.maps import Level, Maps
from visiongraft.plugins.detection.models.matching import match_default_boxes
from visiongraft.plugins.detection.models.selection import Limits, clip, results, select
from visiongraft.task import Decoded
from visiongraft.task_contract.class_rows import ClassRows

CODER = BoxCoder(center=10.0, side=5.0)
MAPS = 6
EXTRA_WIDTHS = (512, 256, 256, 128, 128)
NEGATIVES = 3  # background boxes for each matched one, the hardest
MATCHED = 0.5  # least intersection over union of a default box with its object


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that also takes a single value, which the 1x1 map of one image is."""

    def forward(self, values: Tensor) -> Tensor:
        if self.training and values.numel() == values.shape[1]:
            statistics = (self.running_mean, self.running_var)
            return F.batch_norm(values, *statistics, self.weight, self.bias, eps=self.eps)
        return super().forward(values)


class SsdHead(nn.Module):
    """Further maps after the backbone's, and one convolution on each map for classes and boxes.

    Args:
        backbone: Computes the first feature maps.
        classes: Number of classes.
        lite: Depthwise convolutions from stride 16 on instead of full ones from stride 8 on.
    """

    def __init__(self, backbone: Backbone, classes: int, lite: bool) -> None:
        super().__init__()
        self.maps = Maps(backbone, 16 if lite else 8)
        # torchvision's momentum is 0.03: too slow for the few hundred steps of fine-tuning.
        norm = partial(BatchNorm, eps=0.001, momentum=0.1)
        levels = list(self.maps.levels)
        self.extra = nn.ModuleList()
        for width in EXTRA_WIDTHS[: max(MAPS - len(levels), 0)]:
            last = levels[-1]
            if last.grid == (1, 1):
                break
            block = (
                _lite_block(last.channels, width, norm) if lite else _block(last.channels, width)
            )
            self.extra.append(block)
            levels.append(last.halved(width))
        if lite:
            _initialize_lite(self.extra)
        generator = lite_boxes(levels) if lite else default_boxes(levels, bool(self.extra))
        self.anchors = Anchors(generator, levels, backbone.info.preprocess)
        channels = [level.channels for level in levels]
        self.lite, self.per_cell = lite, generator.num_anchors_per_location()
        self.head = (
            SSDLiteHead(channels, self.per_cell, classes + 1, norm)
            if lite
            else SSDHead(channels, self.per_cell, classes + 1)
        )

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Predict for each default box.

        Args:
            features: The backbone's; its feature maps are used.

        Returns:
            ``cls_logits`` (N, A, classes + 1), the first of them for background,
            ``bbox_regression`` (N, A, 4), and the result of ``Anchors.outputs``.
        """
        maps = self.maps(features)
        for block in self.extra:
            maps.append(block(maps[-1]))
        return {
            "cls_logits": self._predict(self.head.classification_head, maps),
            "bbox_regression": self._predict(self.head.regression_head, maps),
            **self.anchors.outputs(),
        }

    def class_rows(self, names: tuple[str, ...]) -> dict[str, ClassRows]:
        """Return where the classes are; see ``Task.class_rows``."""
        last = ".1" if self.lite else ""  # a block's convolution that follows its depthwise one
        return {
            f"head.classification_head.module_list.{i}{last}.{kind}": ClassRows(
                names, count, before=1
            )
            for i, count in enumerate(self.per_cell)
            for kind in ("weight", "bias")
        }

    def _predict(self, head: SSDScoringHead, maps: Sequence[Tensor]) -> Tensor:
        """Apply a layer to each map; torchvision's own forward rejects a batch of no images."""
        layers = zip(head.module_list, maps, strict=True)
        return torch.cat([by_anchor(layer(x), head.num_columns) for layer, x in layers], dim=1)


def ssd_loss(outputs: Mapping[str, Tensor], image: int, objects: Mapping[str, Tensor]) -> Terms:
    """Compute the loss terms of one image.

    Args:
        outputs: The result of ``SsdHead``.
        image: Position of the image.
        objects: Its objects, ``boxes`` in network pixels and ``labels``.

    Returns:
        ``classification``: cross-entropy with hard negatives; ``bbox_regression``: smooth L1.
    """
    anchors = torch.cat(level_anchors(outputs))
    logits = outputs["cls_logits"][image].float()
    codes = outputs["bbox_regression"][image].float()
    matches = match_default_boxes(objects["boxes"], anchors, MATCHED)
    matched = matches >= 0
    index = matches[matched]
    count = matched.sum()
    truth = CODER.encode(objects["boxes"][index], anchors[matched])
    boxes = F.smooth_l1_loss(codes[matched], truth, reduction="sum")
    class_ids = torch.zeros_like(matches)
    class_ids[matched] = objects["labels"][index] + 1
    classes = F.cross_entropy(logits, class_ids, reduction="none")
    hardness = classes.masked_fill(matched, -torch.inf)
    hardest = hardness.argsort(descending=True).argsort() < NEGATIVES * count
    some = count.clamp(min=1)
    return {
        "bbox_regression": boxes / some,
        "classification": (classes[matched].sum() + classes[hardest].sum()) / some,
    }


def decode_ssd(outputs: Mapping[str, Tensor], sizes: Tensor, limits: Limits) -> Decoded:
    """Turn the outputs of ``SsdHead`` into detections; see ``selection.results``.

    torchvision's limit of 400 candidates per class before suppression is not applied: a rank among
    so many nearly equal scores differs between two runtimes.
    """
    anchors = torch.cat(level_anchors(outputs))
    boxes = CODER.decode(outputs["bbox_regression"].float(), anchors)
    scores = outputs["cls_logits"].float().softmax(2)[:, :, 1:].transpose(1, 2)
    selected = select(clip(boxes, outputs["size"]), scores, limits)
    return results(*selected, outputs, sizes)


def lite_boxes(levels: Sequence[Level]) -> DefaultBoxGenerator:
    """Return SSDLite's default boxes: from 20 to 95 % of the input, of ratios 1, 2 and 3."""
    return DefaultBoxGenerator([[2, 3] for _ in levels], min_ratio=0.2, max_ratio=0.95)


def default_boxes(levels: Sequence[Level], extended: bool) -> DefaultBoxGenerator:
    """Return SSD's default boxes: 7 % of the input on the finest map, 15 to 87 % on the others.

    Args:
        levels: The feature maps.
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


def _block(channels: int, width: int) -> nn.Module:
    """Halve a map's resolution, as SSD does."""
    layers = nn.Sequential(
        nn.Conv2d(channels, width // 2, 1),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        nn.ReLU(),
    )
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(2))
    return layers


def _lite_block(channels: int, width: int, norm: Callable[..., nn.Module]) -> nn.Module:
    """Halve a map's resolution by a depthwise convolution, as SSDLite does."""
    half = width // 2
    layer = partial(Conv2dNormActivation, norm_layer=norm, activation_layer=nn.ReLU6)
    return nn.Sequential(
        layer(channels, half, kernel_size=1),
        layer(half, half, kernel_size=3, stride=2, groups=half),
        layer(half, width, kernel_size=1),
    )


def _initialize_lite(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):  # without biases, since a norm follows each
            nn.init.normal_(layer.weight, std=0.03)

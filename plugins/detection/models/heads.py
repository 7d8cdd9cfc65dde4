"""The available detectors, each with its head, loss and decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.plugins.detection.models.faster_rcnn import (
    FasterRcnnLayers,
    decode_faster_rcnn,
    faster_rcnn_loss,
)
from visiongraft.plugins.detection.models.fcos import FcosLayers, decode_fcos, fcos_loss
from visiongraft.plugins.detection.models.retinanet import (
    RetinaNetLayers,
    decode_retinanet,
    retinanet_loss,
)
from visiongraft.plugins.detection.models.selection import Limits
from visiongraft.plugins.detection.models.ssd import SsdHead, decode_ssd, ssd_loss
from visiongraft.task import Decoded


@dataclass(frozen=True)
class Detector:
    """One kind of detector.

    Attributes:
        build: Builds the head from backbone, number of classes, and width of the pyramid.
        loss: Computes the loss terms of one image; see ``ImageMeanLoss``.
        decode: Turns outputs into detections.
        iou: Intersection over union above which the weaker of two detections is suppressed;
            torchvision's default.
        samples: Whether the head needs the targets in training, to sample regions.
        schedule: Options of the built-in schedules with which a new one is learned.
        noise: How many times farther apart than those of a single stage the scores of two runtimes
            may be: the second stage pools from boxes that rounding has already moved.
    """

    build: Callable[[Backbone, int, int], nn.Module]
    loss: Callable[[Mapping[str, Tensor], int, Mapping[str, Tensor]], dict[str, Tensor]]
    decode: Callable[[Mapping[str, Tensor], Tensor, Limits], Decoded]
    iou: float
    schedule: Mapping[str, Any]
    samples: bool = False
    noise: float = 1.0


def _ssd(backbone: Backbone, classes: int, width: int, *, lite: bool) -> nn.Module:
    return SsdHead(backbone, classes, lite)


# New necks and heads on top of features of photographs: in the short trainings that were measured, the whole
# network has to follow, with batch norm. Layers without norms bear a high rate, and need it. Deep towers do not:
# alone, at the rate at which other heads begin, they end where nothing trains them any more.
FOLLOWING: Mapping[str, Any] = {"layer_decay": 1.0, "batch_norm": "train"}
SHALLOW: Mapping[str, Any] = {**FOLLOWING, "learning_rate": 2e-3}
DEEP: Mapping[str, Any] = {
    **FOLLOWING,
    "learning_rate": 5e-4,
    "probe_epochs": 0,
    "probe_learning_rate": 5e-4,
}

HEADS: dict[str, Detector] = {
    "ssdlite": Detector(partial(_ssd, lite=True), ssd_loss, decode_ssd, 0.55, SHALLOW),
    "ssd": Detector(partial(_ssd, lite=False), ssd_loss, decode_ssd, 0.45, SHALLOW),
    "retinanet": Detector(RetinaNetLayers, retinanet_loss, decode_retinanet, 0.5, DEEP),
    "fcos": Detector(FcosLayers, fcos_loss, decode_fcos, 0.6, DEEP),
    "faster_rcnn": Detector(
        FasterRcnnLayers, faster_rcnn_loss, decode_faster_rcnn, 0.5, DEEP, samples=True, noise=10.0
    ),
    "faster_rcnn_v2": Detector(
        partial(FasterRcnnLayers, second=True),
        faster_rcnn_loss,
        decode_faster_rcnn,
        0.5,
        DEEP,
        samples=True,
        noise=10.0,
    ),
}

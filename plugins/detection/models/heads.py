"""The available detectors, each with its head, loss and decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

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
        noise: How many times farther apart than those of a single stage the scores of two runtimes
            may be: the second stage pools from boxes that rounding has already moved.
    """

    build: Callable[[Backbone, int, int], nn.Module]
    loss: Callable[[Mapping[str, Tensor], int, Mapping[str, Tensor]], dict[str, Tensor]]
    decode: Callable[[Mapping[str, Tensor], Tensor, Limits], Decoded]
    iou: float
    samples: bool = False
    noise: float = 1.0


def _ssd(backbone: Backbone, classes: int, width: int, *, lite: bool) -> nn.Module:
    return SsdHead(backbone, classes, lite)


HEADS: dict[str, Detector] = {
    "ssdlite": Detector(partial(_ssd, lite=True), ssd_loss, decode_ssd, 0.55),
    "ssd": Detector(partial(_ssd, lite=False), ssd_loss, decode_ssd, 0.45),
    "retinanet": Detector(RetinaNetLayers, retinanet_loss, decode_retinanet, 0.5),
    "fcos": Detector(FcosLayers, fcos_loss, decode_fcos, 0.6),
    "faster_rcnn": Detector(
        FasterRcnnLayers, faster_rcnn_loss, decode_faster_rcnn, 0.5, samples=True, noise=10.0
    ),
    "faster_rcnn_v2": Detector(
        partial(FasterRcnnLayers, second=True),
        faster_rcnn_loss,
        decode_faster_rcnn,
        0.5,
        samples=True,
        noise=10.0,
    ),
}

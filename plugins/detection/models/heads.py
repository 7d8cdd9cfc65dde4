"""The detectors there are, each with its head, loss and decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.plugins.detection.models.dense import (
    FcosLayers,
    FcosLoss,
    RetinaNetLayers,
    RetinaNetLoss,
    decode_fcos,
    decode_retinanet,
)
from visiongraft.plugins.detection.models.faster_rcnn import (
    FasterRcnnLayers,
    FasterRcnnLoss,
    decode_faster_rcnn,
)
from visiongraft.plugins.detection.models.selection import Limits
from visiongraft.plugins.detection.models.ssd import SsdHead, SsdLoss, decode_ssd
from visiongraft.task import Decoded


@dataclass(frozen=True)
class Detector:
    """One kind of detector.

    Attributes:
        build: Makes the head, from backbone, number of labels, and width of the pyramid.
        loss: Makes the loss.
        decode: Turns outputs into detections.
        iou: Overlap above which the weaker detection goes, as torchvision has it.
        samples: Whether the head must see the targets to train, since it chooses what to look at.
        noise: How many times farther apart than those of a single look the scores of two runtimes
            may be: a second look goes to boxes that rounding has moved already.
    """

    build: Callable[[Backbone, int, int], nn.Module]
    loss: Callable[[], nn.Module]
    decode: Callable[[Mapping[str, Tensor], Tensor, Limits], Decoded]
    iou: float
    samples: bool = False
    noise: float = 1.0


def _ssd(backbone: Backbone, labels: int, width: int, *, lite: bool) -> nn.Module:
    return SsdHead(backbone, labels, lite)


HEADS: dict[str, Detector] = {
    "ssdlite": Detector(partial(_ssd, lite=True), SsdLoss, decode_ssd, 0.55),
    "ssd": Detector(partial(_ssd, lite=False), SsdLoss, decode_ssd, 0.45),
    "retinanet": Detector(RetinaNetLayers, RetinaNetLoss, decode_retinanet, 0.5),
    "fcos": Detector(FcosLayers, FcosLoss, decode_fcos, 0.6),
    "faster_rcnn": Detector(
        FasterRcnnLayers, FasterRcnnLoss, decode_faster_rcnn, 0.5, samples=True, noise=10.0
    ),
}

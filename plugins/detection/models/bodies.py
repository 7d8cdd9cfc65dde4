"""The layers of torchvision's SSD detectors before their heads, as backbones.

Both change the network that they build on, and add further maps that are pretrained with the head, so that no
other backbone fits their checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torchvision
from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features, name_stages
from visiongraft.errors import BackboneError, WeightsError
from visiongraft.plugins.detection.models.ssd import BatchNorm
from visiongraft.preprocess import PreprocessConfig

PREFIX = "torchvision_detection"
MOMENTUM = (
    0.1  # of batch norm; torchvision's 0.03 is too slow for the few hundred steps of fine-tuning
)
POOLED = 1  # the map whose mean is the embedding: the last of the network before SSD's further ones


@dataclass(frozen=True)
class Body:
    """Facts about the layers of a detector before its head.

    Attributes:
        size: Side of the input in pixels; the layers fit no other one.
        strides: Of the maps, in pixels, as their default boxes are spaced.
        channels: Of the maps.
        begins: Names of the modules with which the stages begin.
    """

    size: int
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    begins: tuple[str, ...]


BODIES = {
    "ssd300_vgg16": Body(
        300,
        (8, 16, 32, 64, 100, 300),
        (512, 1024, 512, 256, 256, 256),
        ("features.0", "features.5", "features.10", "features.17", "extra.0", "extra.1"),
    ),
    "ssdlite320_mobilenet_v3_large": Body(
        320,
        (16, 32, 64, 107, 160, 320),
        (672, 480, 512, 256, 256, 128),
        ("features.0.0", "features.0.2", "features.0.4", "features.0.7", "features.1", "extra"),
    ),
}


class DetectorBody(Backbone):
    """A feature extractor of torchvision's SSD models.

    Args:
        info: Facts about it.
        body: The feature extractor.
    """

    def __init__(self, info: BackboneInfo, body: nn.Module) -> None:
        super().__init__(info)
        self.body = body

    def forward(self, images: Tensor) -> Features:
        maps = tuple(self.body(images).values())
        return Features(maps, maps[POOLED].mean((2, 3)))

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Name the tensors of torchvision's files as this module does; leave out the head."""
        return {
            n if n.startswith("body.") else f"body.{n.removeprefix('backbone.')}": t
            for n, t in weights.items()
            if not n.startswith("head.")
        }


class DetectorBodySource(BackboneSource):
    """Provides the layers before the heads of torchvision's SSD and SSDLite."""

    prefix = PREFIX

    def names(self) -> Sequence[str]:
        return list(BODIES)

    def example(self) -> str:
        return "ssdlite320_mobilenet_v3_large"

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        facts, full = BODIES[name], f"{PREFIX}/{name}"
        side = (facts.size, facts.size)
        if size not in (None, side):
            raise BackboneError(f"backbone {full} takes images of {side}, not {size}; omit size")
        if in_channels != 3:
            raise BackboneError(f"backbone {full} takes 3 channels, not {in_channels}")
        if pretrained:
            raise WeightsError(
                f"backbone {full} is published with its head only; pass the file of the detector as start "
                "(fit) or weights (assemble), or weights=None for random weights"
            )
        model: Any = torchvision.models.get_model(name, weights=None, weights_backbone=None)
        for module in model.backbone.modules():
            if type(module) is nn.BatchNorm2d:  # the last map of one image is a single value
                module.__class__ = BatchNorm
                module.momentum = MOMENTUM
        transform = model.transform
        info = BackboneInfo(
            name=full,
            stage_of=name_stages(_stages(model.backbone, facts.begins), "body."),
            channels=facts.channels,
            strides=facts.strides,
            embedding_dim=facts.channels[POOLED],
            preprocess=PreprocessConfig(
                side, tuple(transform.image_mean), tuple(transform.image_std), resize="stretch"
            ),
            provenance={"source": f"torchvision {torchvision.__version__}", "weights": "random"},
        )
        return DetectorBody(info, model.backbone)


def _stages(body: nn.Module, begins: Sequence[str]) -> dict[str, int]:
    """Number the tensors; one of the whole, as SSD's scale of a map, belongs to the last stage."""
    starts = [_place(name) for name in begins]
    return {
        name: sum(start <= _place(name) for start in starts) - 1
        if name.startswith(("features.", "extra."))
        else len(starts) - 1
        for name in body.state_dict()
    }


def _place(name: str) -> tuple[bool, list[int]]:
    """Return what orders names as the modules run: `extra` follows `features`."""
    return name.startswith("extra"), [int(part) for part in name.split(".") if part.isdigit()]

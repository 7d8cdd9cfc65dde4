"""Small backbones for generation: critics of adversarial training, encoders of autoencoders."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features
from visiongraft.errors import BackboneError, WeightsError
from visiongraft.preprocess import PreprocessConfig

SIZE = (28, 28)
SLOPE = 0.2  # of leaky ReLUs, as in the DCGAN paper
WIDTHS = (64, 128, 256)
HIDDEN = {"mlp": (256, 256), "mlp_relu": (400,)}


class ConvEncoder(Backbone):
    """Halves the size of an image with each layer (Radford et al., 2016, "DCGAN"); without norms.

    The embedding is the last map, flattened.

    Args:
        in_channels: Number of image channels.
        size: Height and width of the network input, in pixels.
    """

    def __init__(self, in_channels: int, size: tuple[int, int]) -> None:
        before = (in_channels, *WIDTHS)
        layers = [_halving(*pair) for pair in zip(before, WIDTHS, strict=False)]
        strides = tuple(2 ** (i + 1) for i in range(len(layers)))
        last = WIDTHS[-1] * math.prod(side // strides[-1] for side in size)
        super().__init__(_info("conv", layers, WIDTHS, strides, last, in_channels, size))
        self.layers = nn.ModuleDict(_staged(layers))

    def forward(self, images: Tensor) -> Features:
        maps = []
        for layer in self.layers.values():
            images = layer(images)
            maps.append(images)
        return Features(tuple(maps), images.flatten(1))


class MlpEncoder(Backbone):
    """Fully connected layers over the pixels of an image; its only map has one position.

    Args:
        name: Its name after the slash.
        in_channels: Number of image channels.
        size: Height and width of the network input, in pixels.
    """

    def __init__(self, name: str, in_channels: int, size: tuple[int, int]) -> None:
        hidden = HIDDEN[name]
        before = (in_channels * math.prod(size), *hidden)
        slope = 0.0 if name == "mlp_relu" else SLOPE
        layers = [_connected(*pair, slope) for pair in zip(before, hidden, strict=False)]
        super().__init__(
            _info(name, layers, hidden[-1:], (max(size),), hidden[-1], in_channels, size)
        )
        self.layers = nn.ModuleDict(_staged(layers))

    def forward(self, images: Tensor) -> Features:
        values = images.flatten(1)
        for layer in self.layers.values():
            values = layer(values)
        return Features((values[:, :, None, None],), values)


class EncoderSource(BackboneSource):
    """Provides ``generation/conv``, ``generation/mlp`` and ``generation/mlp_relu``."""

    prefix = "generation"

    def names(self) -> Sequence[str]:
        return ("conv", *HIDDEN)

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        if pretrained:
            raise WeightsError(
                f"generation/{name} has no pretrained weights; use weights=None to train from scratch, or "
                "start=MODEL"
            )
        size = size or SIZE
        least = 2 ** len(WIDTHS)
        if min(size) < least:
            raise BackboneError(
                f"generation/{name} takes no images of {size[0]}x{size[1]} pixels: its sides are at least "
                f"{least}"
            )
        return (
            ConvEncoder(in_channels, size)
            if name == "conv"
            else MlpEncoder(name, in_channels, size)
        )


def _halving(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), relu=nn.LeakyReLU(SLOPE)
        )
    )


def _connected(inputs: int, outputs: int, slope: float) -> nn.Module:
    return nn.Sequential(OrderedDict(dense=nn.Linear(inputs, outputs), relu=nn.LeakyReLU(slope)))


def _staged(layers: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Name layers as stages."""
    return {
        ("stem", *(f"stage{i}" for i in range(1, len(layers))))[i]: x for i, x in enumerate(layers)
    }


def _info(
    name: str,
    layers: Sequence[nn.Module],
    channels: tuple[int, ...],
    strides: tuple[int, ...],
    dim: int,
    in_channels: int,
    size: tuple[int, int],
) -> BackboneInfo:
    middle = (0.5,) * in_channels
    staged = _staged(layers).items()
    return BackboneInfo(
        name=f"generation/{name}",
        stage_of={f"layers.{s}.{n}": s for s, layer in staged for n in layer.state_dict()},
        channels=channels,
        strides=strides,
        embedding_dim=dim,
        preprocess=PreprocessConfig(size=size, mean=middle, std=middle),
        in_channels=in_channels,
        provenance={"source": "visiongraft", "weights": "random"},
    )

"""Decoders of segmentation-models-pytorch and torchvision on any backbone's feature maps.

The decoders are used unchanged; this module provides the pyramid levels that they expect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from visiongraft.backbone import Features
from visiongraft.errors import OptionError
from visiongraft.plugins.dense.pyramid import MAX_LEVEL, EncoderLevels
from visiongraft.plugins.dense.resizing import resize_bilinear

UNET_WIDTH = 256
MIN_UNET_WIDTH = 8  # the width halves from block to block
WIDTH = 256
NUM_LEVELS = 4  # of FPN, UPerNet and SegFormer
DILATED_LEVEL = 3  # stride 8, as of torchvision's dilated backbones
ATROUS_RATES = (12, 24, 36)


class _Decoder(nn.Module):
    """A decoder of segmentation-models-pytorch with its output layer.

    Args:
        decoder: The decoder.
        width: Channels of its output.
        outputs: Number of values per pixel.
        chosen: The pyramid levels that it takes.
        arrange: Converts these levels to the list that it expects.
        kernel: Size of the output layer's kernel.
    """

    def __init__(
        self,
        decoder: nn.Module,
        width: int,
        outputs: int,
        chosen: Sequence[int],
        arrange: Callable[[list[Tensor]], list[Any]] = list,
        kernel: int = 1,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.output = SegmentationHead(width, outputs, kernel_size=kernel)
        self.chosen, self.arrange = chosen, arrange
        initialize_decoder(self.decoder)
        initialize_head(self.output)

    def begin_at_zero(self) -> None:
        """Let all values be 0 before training."""
        for parameter in self.output.parameters():
            nn.init.zeros_(parameter)

    def forward(self, pyramid: EncoderLevels, features: Features) -> Tensor:
        levels = self.arrange(pyramid(features, self.chosen))
        values: Tensor = self.output(self.decoder(levels))
        return values


def unet(
    pyramid: EncoderLevels, outputs: int, channels: int, instance_norm: bool = False
) -> _Decoder:
    """Build U-Net up to the input resolution, with skip connections from stride 2 on.

    Args:
        pyramid: What the decoder reads.
        outputs: Number of values per pixel.
        channels: Width; 0 for the default.
        instance_norm: Normalize each image by itself instead of batches.
    """
    depth = max(pyramid.deepest, 1)
    first = 1 if depth == 1 or 1 in pyramid.index else 2
    # A shallow backbone uses the finest blocks only, as in smp's models.
    widest = channels or UNET_WIDTH >> (MAX_LEVEL - depth)
    widths = [max(widest >> i, MIN_UNET_WIDTH) for i in range(depth)]
    skips = [pyramid.width(k) if k >= first else 0 for k in range(1, depth + 1)]
    norm = {"type": "instancenorm", "affine": True} if instance_norm else "batchnorm"
    decoder = UnetDecoder([0, *skips], widths, n_blocks=depth, use_norm=norm)
    arrange = partial(_with_empty_levels, depth=depth)
    return _Decoder(decoder, widths[-1], outputs, range(first, depth + 1), arrange, kernel=3)


def _fpn(pyramid: EncoderLevels, outputs: int, channels: int) -> nn.Module:
    """Build a feature pyramid (Kirillov et al., 2019, "Panoptic Feature Pyramid Networks")."""
    chosen = four_levels(pyramid)
    width = channels or WIDTH
    if width % 128:  # group normalization needs several channels per group
        raise OptionError(f"channels={channels}: the fpn decoder needs a multiple of 128")
    decoder = FPNDecoder(
        [pyramid.width(k) for k in chosen],
        encoder_depth=NUM_LEVELS,
        pyramid_channels=width,
        segmentation_channels=width // 2,
    )
    return _Decoder(decoder, width // 2, outputs, chosen)


def _deeplabv3plus(pyramid: EncoderLevels, outputs: int, channels: int) -> nn.Module:
    """Build DeepLabV3+: atrous pooling of the deepest map at stride 16, detail from stride 4."""
    width = channels or WIDTH
    decoder = DeepLabV3PlusDecoder(
        [0, 0, pyramid.width(2), pyramid.width(pyramid.deepest)],
        encoder_depth=NUM_LEVELS,
        out_channels=width,
        atrous_rates=ATROUS_RATES,
        output_stride=16,
        aspp_separable=True,
        aspp_dropout=0.5,
    )
    return _Decoder(decoder, width, outputs, (2, max(4, pyramid.deepest)), _fine_and_stride_16)


def _upernet(pyramid: EncoderLevels, outputs: int, channels: int) -> nn.Module:
    """Build UPerNet (Xiao et al., 2018, "Unified Perceptual Parsing")."""
    chosen, width = four_levels(pyramid), channels or WIDTH
    decoder = UPerNetDecoder([0, 0, *map(pyramid.width, chosen)], NUM_LEVELS, width)
    return _Decoder(decoder, width, outputs, chosen, _after_two_unused)


def _segformer(pyramid: EncoderLevels, outputs: int, channels: int) -> nn.Module:
    """Build the all-MLP decoder of SegFormer (Xie et al., 2021)."""
    chosen, width = four_levels(pyramid), channels or WIDTH
    decoder = SegformerDecoder([0, 0, *map(pyramid.width, chosen)], NUM_LEVELS, width)
    arrange = partial(_with_empty_levels, depth=NUM_LEVELS + 1)
    return _Decoder(decoder, width, outputs, chosen, arrange)


class _TorchvisionHead(nn.Module):
    """A torchvision head on the deepest feature map, resized to the stride of dilated backbones."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, pyramid: EncoderLevels, features: Features) -> Tensor:
        (values,) = pyramid(features, [pyramid.deepest])
        finer = max(pyramid.deepest - DILATED_LEVEL, 0)
        logits: Tensor = self.head(
            resize_bilinear(values, (values.shape[-2] << finer, values.shape[-1] << finer))
        )
        return logits


def _fcn(pyramid: EncoderLevels, outputs: int, channels: int) -> nn.Module:
    _check_no_width("fcn", channels)
    return _TorchvisionHead(FCNHead(pyramid.width(pyramid.deepest), outputs))


def _deeplabv3(pyramid: EncoderLevels, outputs: int, channels: int) -> nn.Module:
    _check_no_width("deeplabv3", channels)
    return _TorchvisionHead(DeepLabHead(pyramid.width(pyramid.deepest), outputs, ATROUS_RATES))


def _check_no_width(decoder: str, channels: int) -> None:
    if channels:
        raise OptionError(
            f"channels={channels}: decoder {decoder!r} has a fixed width; leave channels at 0"
        )


DECODERS: dict[str, Callable[[EncoderLevels, int, int], nn.Module]] = {
    "unet": unet,
    "fpn": _fpn,
    "deeplabv3plus": _deeplabv3plus,
    "upernet": _upernet,
    "segformer": _segformer,
    "fcn": _fcn,
    "deeplabv3": _deeplabv3,
}


def four_levels(pyramid: EncoderLevels) -> tuple[int, ...]:
    """Return four levels: strides 4 to 32, or 2 to 16 for a shallow backbone."""
    first = 2 if pyramid.deepest >= NUM_LEVELS else 1
    return tuple(range(first, first + NUM_LEVELS))


def blank_image(features: Features) -> Features | None:
    """Return features of one blank image if there is no image: some decoders refuse empty batches.

    Args:
        features: The output of a backbone.

    Returns:
        Zeros for one image; ``None`` if there is an image, or a graph is traced.
    """
    if torch.compiler.is_compiling() or len(features.maps[0]):
        return None
    return Features(tuple(m.new_zeros(1, *m.shape[1:]) for m in features.maps), features[1])


def _with_empty_levels(found: list[Tensor], depth: int) -> list[Any]:
    """Precede levels by finer ones without channels: decoders only read the sizes of these."""
    n, _, height, width = found[-1].shape
    missing = [
        found[-1].new_empty(n, 0, height << (depth - k), width << (depth - k))
        for k in range(depth + 1 - len(found))
    ]
    return [*missing, *found]


def _after_two_unused(found: list[Tensor]) -> list[Any]:
    return [None, None, *found]


def _fine_and_stride_16(found: list[Tensor]) -> list[Any]:
    fine, deepest = found
    size = (fine.shape[-2] // 4, fine.shape[-1] // 4)
    return _after_two_unused([fine, resize_bilinear(deepest, size)])

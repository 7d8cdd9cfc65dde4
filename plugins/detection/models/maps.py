"""Select the feature maps for a head, and build a pyramid for backbones of a single stride."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, Features
from visiongraft.errors import OptionError

FEWEST = 2  # maps


@dataclass(frozen=True)
class Level:
    """One feature map that a head uses.

    Attributes:
        channels: Its channels.
        stride: Input pixels from one of its cells to the next.
        grid: Its height and width in cells.
    """

    channels: int
    stride: float
    grid: tuple[int, int]

    def halved(self, channels: int) -> Level:
        """Return a level of half the resolution, rounded up, with other channels."""
        height, width = self.grid
        return Level(channels, self.stride * 2, ((height + 1) // 2, (width + 1) // 2))


class Maps(nn.Module):
    """Select a backbone's feature maps from a stride on, from fine to coarse.

    If fewer than two are that coarse, the two coarsest are used. For backbones whose maps all have
    the same stride, such as plain vision transformers, a simple pyramid is built on the last map.

    Args:
        backbone: The backbone.
        stride: Smallest stride to use, in pixels.

    Attributes:
        levels: The maps that ``forward`` returns.
    """

    def __init__(self, backbone: Backbone, stride: int) -> None:
        super().__init__()
        info = backbone.info
        grids = map_grids(backbone)
        self.pyramid: SimplePyramid | None = None
        if len(set(info.strides)) == 1:
            self.indices = [len(info.strides) - 1]
            last = Level(info.channels[-1], info.strides[-1], grids[-1])
            self.pyramid = SimplePyramid(last, stride)
            self.levels = self.pyramid.levels
        else:
            self.indices = _chosen(info, stride)
            self.levels = [Level(info.channels[i], info.strides[i], grids[i]) for i in self.indices]

    def forward(self, features: Features) -> list[Tensor]:
        """Return the maps, float32 or the dtype that the network computes in."""
        chosen = [features.maps[i] for i in self.indices]
        return chosen if self.pyramid is None else self.pyramid(chosen[0])


class SimplePyramid(nn.Module):
    """Maps of several strides from one (Li et al., 2022, "Exploring plain vision transformer").

    Finer maps come from transposed convolutions, coarser ones from max pooling.

    Args:
        last: The map to start from.
        stride: Smallest stride to return; at most two finer maps and one coarser map are added.

    Attributes:
        levels: The maps that ``forward`` returns.
    """

    def __init__(self, last: Level, stride: int) -> None:
        super().__init__()
        (height, width), channels = last.grid, last.channels
        finer = [n for n in (2, 1) if last.stride / 2**n >= stride] or [1]
        self.branches = nn.ModuleList([_finer(channels, n) for n in finer])
        self.branches.extend([nn.Identity(), nn.MaxPool2d(2, ceil_mode=True)])
        self.levels = [
            Level(channels // 2**n, last.stride / 2**n, (height * 2**n, width * 2**n))
            for n in finer
        ]
        self.levels += [last, last.halved(channels)]

    def forward(self, last: Tensor) -> list[Tensor]:
        """Return maps from fine to coarse."""
        return [branch(last) for branch in self.branches]


def map_grids(backbone: Backbone) -> list[tuple[int, int]]:
    """Determine the height and width of each feature map by passing an image of zeros.

    Args:
        backbone: The backbone; its modes are restored.

    Returns:
        Sizes in cells, one per map.
    """
    modes = {module: module.training for module in backbone.modules()}
    parameter = next(backbone.parameters())
    shape = (1, backbone.info.in_channels, *backbone.info.preprocess.size)
    backbone.eval()
    try:
        with torch.no_grad():
            maps = backbone(torch.zeros(shape, dtype=parameter.dtype, device=parameter.device)).maps
    finally:
        for module, mode in modes.items():
            module.training = mode
    return [(int(m.shape[2]), int(m.shape[3])) for m in maps]


def reject_crops(backbone: Backbone) -> None:
    """Check that the network input is the whole image, so that boxes in it are well-defined.

    Raises:
        OptionError: Images are neither stretched nor fitted into the size of the network input.
    """
    resize = backbone.info.preprocess.resize
    if resize not in ("stretch", "letterbox"):
        raise OptionError(
            f"detection requires resize='stretch' or 'letterbox', not {resize!r}: its boxes refer to the "
            "whole image"
        )


def _chosen(info: BackboneInfo, stride: int) -> list[int]:
    last_of = {s: i for i, s in enumerate(info.strides)}  # of equal strides the last one
    order = sorted(last_of)
    coarse = [s for s in order if s >= stride]
    return [last_of[s] for s in (coarse if len(coarse) >= FEWEST else order[-FEWEST:])]


def _finer(channels: int, octaves: int) -> nn.Module:
    steps: list[nn.Module] = []
    for n in range(octaves):
        inputs = channels // 2**n
        if n:
            steps += [nn.GroupNorm(1, inputs), nn.GELU()]
        steps.append(nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2))
    return nn.Sequential(*steps)

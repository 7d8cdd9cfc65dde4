"""A backbone's maps as the levels that decoders expect: each half as fine as the one before."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import BackboneInfo, Features

COARSEST = 5  # maps beyond stride 32 are too coarse to say where anything is


class EncoderLevels(nn.Module):
    """Chooses maps by level, and makes those that are missing by resizing.

    Level ``k`` has the stride ``2 ** k``. The deepest map of a level counts. A level that the
    backbone lacks comes from the nearest one: finer ones by bilinear interpolation, coarser ones by
    averaging. So a plain ViT, whose maps all have one stride, gets a simple feature pyramid (Li et
    al., 2022, "Exploring Plain Vision Transformer Backbones"), without weights of its own.

    Args:
        info: Facts about the backbone.

    Attributes:
        deepest: The coarsest level of the backbone.
    """

    def __init__(self, info: BackboneInfo) -> None:
        super().__init__()
        levels = [max(0, round(math.log2(stride))) for stride in info.strides]
        usable = [level for level in levels if level <= COARSEST] or levels[:1]
        self.channels = info.channels
        self.index = {level: i for i, level in enumerate(levels) if level in usable}
        self.deepest = max(self.index)

    def source(self, level: int) -> int:
        """Give the level of the backbone that a level is made of: itself, else the nearest one."""
        return min(self.index, key=lambda own: (abs(own - level), -own))

    def width(self, level: int) -> int:
        """Give the number of channels of a level."""
        return self.channels[self.index[self.source(level)]]

    def forward(self, features: Features, levels: Sequence[int]) -> list[Tensor]:
        """Give levels.

        Args:
            features: What the backbone gave.
            levels: Which ones.

        Returns:
            A map (N, C, h, w) each; from level to level sides double exactly.
        """
        top = max(self.deepest, *levels)
        halvings = 1 << (top - self.deepest)
        coarsest = features.maps[self.index[self.deepest]]
        height, width = (-(-side // halvings) for side in coarsest.shape[-2:])
        found = []
        for level in levels:
            values = features.maps[self.index[self.source(level)]]
            if level > self.deepest:
                values = F.avg_pool2d(values, 1 << (level - self.deepest), ceil_mode=True)
            size = (height << (top - level), width << (top - level))
            found.append(resized(values, size))
        return found


def resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate a map, unless it has that size.

    Args:
        values: (N, C, h, w).
        size: Height and width to produce.

    Returns:
        (N, C, height, width).
    """
    if values.shape[-2:] == size:
        return values
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)

"""Convert any backbone's feature maps to the pyramid levels that decoders expect."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import BackboneInfo, Features
from visiongraft.plugins.segmentation.models.geometry import resize_bilinear

MAX_LEVEL = 5  # feature maps beyond stride 32 are too coarse to localize anything


class EncoderLevels(nn.Module):
    """Selects feature maps by level, and interpolates missing levels.

    Level ``k`` has the stride ``2 ** k``; of several maps of one level the deepest is used. A level
    that the backbone lacks is made from the nearest one: finer levels by bilinear interpolation,
    coarser levels by average pooling. A plain ViT, whose maps all have the same stride, thus gets a
    simple feature pyramid (Li et al., 2022, "Exploring Plain Vision Transformer Backbones") without
    additional weights.

    Args:
        info: Facts about the backbone.

    Attributes:
        deepest: The coarsest level of the backbone.
    """

    def __init__(self, info: BackboneInfo) -> None:
        super().__init__()
        levels = [max(0, round(math.log2(stride))) for stride in info.strides]
        usable = [level for level in levels if level <= MAX_LEVEL] or levels[:1]
        self.channels = info.channels
        self.index = {level: i for i, level in enumerate(levels) if level in usable}
        self.deepest = max(self.index)

    def source(self, level: int) -> int:
        """Return the backbone's level from which a level is made: itself or the nearest one."""
        return min(self.index, key=lambda own: (abs(own - level), -own))

    def width(self, level: int) -> int:
        """Return the number of channels of a level."""
        return self.channels[self.index[self.source(level)]]

    def forward(self, features: Features, levels: Sequence[int]) -> list[Tensor]:
        """Return some levels of the pyramid.

        Args:
            features: The output of the backbone.
            levels: The levels.

        Returns:
            One feature map (N, C, h, w) per level; height and width halve exactly per level.
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
            found.append(resize_bilinear(values, size))
        return found

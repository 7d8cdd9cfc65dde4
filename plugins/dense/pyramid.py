"""Convert any backbone's feature maps to the pyramid levels that decoders expect."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import Backbone, BackboneInfo, Features
from visiongraft.errors import OptionError
from visiongraft.plugins.dense.resizing import resize_bilinear

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


def check_input_size(backbone: Backbone, task: str) -> None:
    """Reject input sizes at which coarse and fine feature maps are not aligned.

    Args:
        backbone: The backbone, with the size of its input.
        task: Name of the task, for the message.

    Raises:
        OptionError: The size is not a multiple of the coarsest stride.
    """
    stride = max(backbone.info.strides)
    size = backbone.info.preprocess.size
    if any(side % stride for side in size):
        near = tuple(max(round(side / stride), 1) * stride for side in size)
        raise OptionError(
            f"size={size}: {task} with this backbone needs multiples of {stride} pixels, such as "
            f"size={near}"
        )

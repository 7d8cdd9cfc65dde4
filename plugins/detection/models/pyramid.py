"""torchvision's feature pyramid for RetinaNet, FCOS and Faster R-CNN."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from visiongraft.backbone import Backbone, Features
from visiongraft.plugins.detection.models.maps import Level, Maps

Further = Literal["pooled", "last", "deepest"]


class FeaturePyramid(nn.Module):
    """Maps of one width, the coarser added to the finer ones, and further coarser ones.

    Lin et al., 2017, "Feature pyramid networks for object detection".

    Args:
        backbone: Computes the feature maps.
        width: Channels of each map of the pyramid.
        stride: Smallest stride of a map to use, in pixels.
        further: The further maps: ``"pooled"`` is one map by subsampling, ``"last"`` two by
            convolutions from the pyramid's last map, ``"deepest"`` two from the backbone's.
        norms: Whether a batch norm follows each convolution of the pyramid.

    Attributes:
        levels: The maps that ``forward`` returns.
    """

    def __init__(
        self, backbone: Backbone, width: int, stride: int, further: Further, norms: bool = False
    ) -> None:
        super().__init__()
        self.maps = Maps(backbone, stride)
        channels = [level.channels for level in self.maps.levels]
        pooled = further == "pooled"
        # LastLevelP6P7 uses the pyramid's last map if the widths are equal, otherwise the backbone's.
        source = width if further == "last" else channels[-1]
        blocks = LastLevelMaxPool() if pooled else LastLevelP6P7(source, width)
        self.pyramid = FeaturePyramidNetwork(
            channels,
            width,
            extra_blocks=blocks,
            norm_layer=nn.BatchNorm2d if norms else None,
        )
        self.levels = [Level(width, level.stride, level.grid) for level in self.maps.levels]
        for _ in range(1 if pooled else 2):
            self.levels.append(self.levels[-1].halved(width))

    def forward(self, features: Features) -> list[Tensor]:
        """Return the maps from fine to coarse."""
        named = OrderedDict((str(i), x) for i, x in enumerate(self.maps(features)))
        return list(self.pyramid(named).values())

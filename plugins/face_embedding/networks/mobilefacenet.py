"""MobileFaceNet: a small network whose last map is weighted by position instead of averaged.

Chen et al., 2018, "MobileFaceNets: efficient CNNs for accurate real-time face verification on mobile devices". Tensors
have the names of the checkpoints of MobileFaceNet_Pytorch (``blocks.0.conv.0.weight``, ``linear7.conv.weight``).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

SIZE = (112, 96)
MEAN, STD = (127.5 / 255,) * 3, (128 / 255,) * 3
WIDTH, LAST, EMBEDDING = 64, 512, 128
# Expansion, channels, number and first stride of the blocks.
BLOCKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
STRIDES, CHANNELS = (2, 4, 8, 16), (64, 64, 128, 512)
STARTS = (0, 5, 12)  # the first block of each stage
STAGES = {"conv1.": 0, "dw_conv1.": 0, "conv2.": 3, "linear7.": 4, "linear1.": 4}


class MobileFaceNet(nn.Module):
    """Maps of images (N, 3, 112, 96), and embeddings of length 128."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _layer(3, WIDTH, 3, stride=2, padding=1)
        self.dw_conv1 = _layer(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        inputs, blocks = WIDTH, []
        for expansion, channels, count, first in BLOCKS:
            for i in range(count):
                blocks.append(_Bottleneck(inputs, channels, expansion, 1 if i else first))
                inputs = channels
        self.blocks = nn.ModuleList(blocks)
        self.conv2 = _layer(inputs, LAST, 1)
        self.linear7 = _layer(LAST, LAST, (7, 6), groups=LAST, linear=True)
        self.linear1 = _layer(LAST, EMBEDDING, 1, linear=True)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the maps, from fine to coarse, and the embedding (N, 128)."""
        x = self.dw_conv1(self.conv1(images))
        maps = []
        for i, block in enumerate(self.blocks):
            if i in STARTS:
                maps.append(x)
            x = block(x)
        x = self.conv2(x)
        maps.append(x)
        return maps, self.linear1(self.linear7(x)).flatten(1)


class _Bottleneck(nn.Module):
    """Expand, filter each channel by itself, and project without an activation."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.PReLU(wide),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.PReLU(wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.conv(x)
        return x + projected if self.adds else projected


def _layer(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    linear: bool = False,
) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        bn=nn.BatchNorm2d(outputs),
    )
    if not linear:
        parts["prelu"] = nn.PReLU(outputs)
    return nn.Sequential(parts)


def stage(name: str) -> int:
    """Return the number of the stage that a tensor belongs to."""
    for prefix, number in STAGES.items():
        if name.startswith(prefix):
            return number
    return 1 + sum(int(name.split(".")[1]) >= start for start in STARTS[1:])

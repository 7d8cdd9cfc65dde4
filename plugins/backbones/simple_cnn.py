"""``simple_cnn``: a minimal convolutional network, for teaching and for tests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features
from visiongraft.errors import WeightsError
from visiongraft.plugins.backbones.errors import unsupported
from visiongraft.preprocess import PreprocessConfig

NAME = "simple_cnn"
SIZE = (32, 32)
CHANNELS = (32, 64)
GRID = 4
EMBEDDING = 128


class SimpleCnn(Backbone):
    """Two blocks of convolution, ReLU and max pooling, and a dense layer.

    The second block's feature map is pooled to a 4x4 grid before the dense layer, so that any image
    size of at least 4x4 pixels is supported.

    Args:
        in_channels: Number of image channels.
        size: Height and width of the network input, in pixels.
    """

    def __init__(self, in_channels: int, size: tuple[int, int]) -> None:
        modules = {
            "stem": _block(in_channels, CHANNELS[0]),
            "stage1": _block(CHANNELS[0], CHANNELS[1]),
            "stage2": _dense(CHANNELS[1] * GRID * GRID, EMBEDDING),
        }
        mean = (0.5,) * in_channels
        super().__init__(
            BackboneInfo(
                name=NAME,
                stage_of={f"{s}.{n}": s for s, m in modules.items() for n in m.state_dict()},
                channels=CHANNELS,
                strides=(2, 4),
                embedding_dim=EMBEDDING,
                preprocess=PreprocessConfig(size=size, mean=mean, std=mean),
                in_channels=in_channels,
                provenance={"source": "visiongraft", "weights": "random"},
            )
        )
        self.stem, self.stage1, self.stage2 = modules.values()

    def forward(self, images: Tensor) -> Features:
        first = self.stem(images)
        second = self.stage1(first)
        return Features((first, second), self.stage2(second))

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        return self.stem, self.stage1


class SimpleCnnSource(BackboneSource):
    """Provides ``simple_cnn``, without a prefix."""

    prefix = ""

    def names(self) -> Sequence[str]:
        return (NAME,)

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
                f"{NAME} has no pretrained weights; use weights=None to train from scratch"
            )
        size = size or SIZE
        if min(size) < 4:
            raise unsupported(NAME, size, "its two pooling layers need at least 4x4 pixels")
        return SimpleCnn(in_channels, size)


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, 3, padding=1), relu=nn.ReLU(), pool=nn.MaxPool2d(2)
        )
    )


def _dense(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            pool=nn.AdaptiveAvgPool2d(GRID),
            flatten=nn.Flatten(),
            dense=nn.Linear(inputs, outputs),
            relu=nn.ReLU(),
        )
    )

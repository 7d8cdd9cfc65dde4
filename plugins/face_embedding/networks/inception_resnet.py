"""Inception-ResNet v1, as FaceNet uses it.

Szegedy et al., 2017, "Inception-v4, Inception-ResNet and the impact of residual connections on learning"; Schroff et al.,
2015, "FaceNet". Tensors have the names of facenet-pytorch's checkpoints (``repeat_1.0.branch0.conv.weight``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SIZE = (160, 160)
MEAN, STD = (127.5 / 255,) * 3, (128 / 255,) * 3
EMBEDDING = 512
CHANNELS, STRIDES = (64, 192, 256, 896, 1792), (2, 4, 8, 16, 32)
EPS = 1e-3

Kernel = int | tuple[int, int]
# A layer of a branch: outputs, kernel, stride, padding.
Layer = tuple[int, Kernel, int, Kernel]


class InceptionResnetV1(nn.Module):
    """Maps of images (N, 3, H, W), and embeddings of length 512."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = _Conv(3, 32, 3, 2, 0)
        self.conv2d_2a = _Conv(32, 32, 3, 1, 0)
        self.conv2d_2b = _Conv(32, 64, 3, 1, 1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _Conv(64, 80, 1, 1, 0)
        self.conv2d_4a = _Conv(80, 192, 3, 1, 0)
        self.conv2d_4b = _Conv(192, 256, 3, 2, 0)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Reduction(
            256, [[(384, 3, 2, 0)], [(192, 1, 1, 0), (192, 3, 1, 1), (256, 3, 2, 0)]]
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _Reduction(
            896,
            [
                [(256, 1, 1, 0), (384, 3, 2, 0)],
                [(256, 1, 1, 0), (256, 3, 2, 0)],
                [(256, 1, 1, 0), (256, 3, 1, 1), (256, 3, 2, 0)],
            ],
        )
        self.repeat_3 = nn.Sequential(*(_block8(0.2) for _ in range(5)))
        self.block8 = _block8(1.0, activated=False)
        self.last_linear = nn.Linear(CHANNELS[-1], EMBEDDING, bias=False)
        self.last_bn = nn.BatchNorm1d(EMBEDDING, eps=EPS)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the maps, from fine to coarse, and the embedding (N, 512), not normalized."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(images)))
        maps = [x]
        x = self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x)))
        maps.append(x)
        x = self.repeat_1(self.conv2d_4b(x))
        maps.append(x)
        x = self.repeat_2(self.mixed_6a(x))
        maps.append(x)
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        maps.append(x)
        return maps, self.last_bn(self.last_linear(x.mean((2, 3))))


class _Conv(nn.Module):
    """A convolution, a batch norm and a ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Kernel, stride: int, padding: Kernel
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.bn(self.conv(x)).relu()
        return activated


class _Branches(nn.Module):
    """Several chains of convolutions on the same map, ``branch0`` and so on."""

    def __init__(self, inputs: int, branches: Sequence[Sequence[Layer]]) -> None:
        super().__init__()
        self.names = [f"branch{i}" for i in range(len(branches))]
        for name, layers in zip(self.names, branches, strict=True):
            channels, chain = inputs, []
            for outputs, kernel, stride, padding in layers:
                chain.append(_Conv(channels, outputs, kernel, stride, padding))
                channels = outputs
            self.add_module(name, chain[0] if len(chain) == 1 else nn.Sequential(*chain))

    def joined(self, x: Tensor) -> list[Tensor]:
        """Return the maps of all branches."""
        return [self.get_submodule(name)(x) for name in self.names]


class _Reduction(_Branches):
    """Branches with stride 2, beside max pooling."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(x, 3, 2)
        return torch.cat([*self.joined(x), pooled], 1)


class _Residual(_Branches):
    """Branches that are projected and added to the input, scaled."""

    def __init__(
        self,
        channels: int,
        branches: Sequence[Sequence[Layer]],
        scale: float,
        activated: bool = True,
    ) -> None:
        super().__init__(channels, branches)
        self.conv2d = nn.Conv2d(sum(layers[-1][0] for layers in branches), channels, 1)
        self.scale, self.activated = scale, activated

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.conv2d(torch.cat(self.joined(x), 1))
        return x.relu() if self.activated else x


def _block35() -> nn.Module:
    first, second = (32, 1, 1, 0), (32, 3, 1, 1)
    return _Residual(256, [[first], [first, second], [first, second, second]], 0.17)


def _block17() -> nn.Module:
    first = (128, 1, 1, 0)
    return _Residual(
        896, [[first], [first, (128, (1, 7), 1, (0, 3)), (128, (7, 1), 1, (3, 0))]], 0.1
    )


def _block8(scale: float, activated: bool = True) -> nn.Module:
    first = (192, 1, 1, 0)
    branches: list[list[Layer]] = [
        [first],
        [first, (192, (1, 3), 1, (0, 1)), (192, (3, 1), 1, (1, 0))],
    ]
    return _Residual(1792, branches, scale, activated)


def stage(name: str) -> int:
    """Return the number of the stage that a tensor belongs to."""
    starts = (
        ("last_", 5),
        (("mixed_7a", "repeat_3", "block8"), 4),
        (("mixed_6a", "repeat_2"), 3),
        (("conv2d_4b", "repeat_1"), 2),
        (("conv2d_3b", "conv2d_4a"), 1),
    )
    return next((number for prefixes, number in starts if name.startswith(prefixes)), 0)

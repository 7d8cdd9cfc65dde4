"""IResNet: the residual networks that ArcFace is published with.

Deng et al., 2019, "ArcFace: Additive angular margin loss for deep face recognition", with the residual blocks of
Han et al., 2017, "Deep pyramidal residual networks": a batch norm first, and no activation after the sum. Tensors have
the names of insightface's checkpoints (``layer1.0.bn1.weight``, ``features.weight``).
"""

from __future__ import annotations

from torch import Tensor, nn

SIZE = (112, 112)
MEAN, STD = (0.5,) * 3, (0.5,) * 3
EMBEDDING, GRID = 512, 7
CHANNELS, STRIDES = (64, 128, 256, 512), (2, 4, 8, 16)
DEPTHS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}


class IResNet(nn.Module):
    """Maps of images (N, 3, 112, 112), and embeddings of length 512.

    Args:
        depths: Number of blocks of each stage.
    """

    def __init__(self, depths: tuple[int, ...]) -> None:
        super().__init__()
        first = CHANNELS[0]
        self.conv1 = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(first), nn.PReLU(first)
        inputs = (first, *CHANNELS)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                _Block(inputs[i], channels, 2),
                *(_Block(channels, channels, 1) for _ in range(depths[i] - 1)),
            )
            for i, channels in enumerate(CHANNELS)
        )
        self.bn2 = nn.BatchNorm2d(CHANNELS[-1])
        self.fc = nn.Linear(CHANNELS[-1] * GRID**2, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)
        self.features.weight.requires_grad = False  # as it was trained

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the maps, from fine to coarse, and the embedding (N, 512)."""
        x, maps = self.prelu(self.bn1(self.conv1(images))), []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps, self.features(self.fc(self.bn2(x).flatten(1)))


class _Block(nn.Module):
    """Two convolutions behind a norm, added to the input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(outputs), nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        inside: Tensor = self.conv1(self.bn1(x))
        inside = self.bn3(self.conv2(self.prelu(self.bn2(inside))))
        return inside + (x if self.downsample is None else self.downsample(x))


def stage(name: str) -> int:
    """Return the number of the stage that a tensor belongs to."""
    if name.startswith("layer"):
        return int(name[len("layer")])
    return 5 if name.startswith(("bn2.", "fc.", "features.")) else 0

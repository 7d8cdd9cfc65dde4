r"""A backbone out of a published detector, in one file: FastestDet's network without its last layers.

FastestDet (github.com/dog-qiuqiu/FastestDet, BSD 3-clause) is a detector of 240,000 parameters that was trained on COCO. Its
backbone is a ShuffleNet V2; its neck joins the maps of strides 8, 16 and 32 at stride 16. Both are kept here, and so
are the names of their tensors, so that the published checkpoint is a weights file:

    visiongraft --plugin examples/plugins/fastestdet.py fit boxes --task detection \
        --backbone examples/fastestdet --weights fastestdet_coco.pth --size 352

The network takes blue, green and red in 0..1, in this order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft import Backbone, BackboneInfo, BackboneSource, Features, PreprocessConfig, hookimpl
from visiongraft.errors import BackboneError, WeightsError

NAME, SIZE = "fastestdet", (352, 352)
STEM, WIDTHS, DEPTHS, NECK = 24, (48, 96, 192), (4, 8, 4), 96
STRIDE = 32  # sides are multiples of it, so that the maps can be joined


class FastestDet(Backbone):
    """The maps of stride 8, of the neck at stride 16, and of stride 32.

    Args:
        size: Height and width of the network input in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        body, neck = _Body(), _Neck()
        names = [
            *(f"backbone.{n}" for n in body.state_dict()),
            *(f"SPP.{n}" for n in neck.state_dict()),
        ]
        super().__init__(
            BackboneInfo(
                name=f"{FastestDetSource.prefix}/{NAME}",
                stage_of={name: _stage(name) for name in names},
                channels=(WIDTHS[0], NECK, WIDTHS[2]),
                strides=(8, 16, 32),
                embedding_dim=WIDTHS[2],
                preprocess=PreprocessConfig(size, (0.0,) * 3, (1.0,) * 3, resize="stretch"),
                provenance={"source": "examples/plugins/fastestdet.py", "weights": "random"},
            )
        )
        self.backbone, self.SPP = body, neck

    def forward(self, images: Tensor) -> Features:
        fine, middle, coarse = self.backbone(images.flip(1))
        joined = self.SPP(
            torch.cat(
                [F.avg_pool2d(fine, 3, 2, 1), middle, F.interpolate(coarse, scale_factor=2.0)], 1
            )
        )
        return Features((fine, joined, coarse), coarse.mean((2, 3)))

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Leave out the detector's last layers."""
        return {name: t for name, t in weights.items() if not name.startswith("detect_head.")}


class FastestDetSource(BackboneSource):
    """Provides ``examples/fastestdet``."""

    prefix = "examples"

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
                f"{NAME}: pass weights=FILE, the checkpoint, or None for random weights"
            )
        size = size or SIZE
        if in_channels != 3 or any(side % STRIDE for side in size):
            raise BackboneError(
                f"{NAME} takes 3 channels and multiples of {STRIDE} pixels, not {in_channels} and {size}"
            )
        return FastestDet(size)


@hookimpl
def register_backbones() -> list[BackboneSource]:
    """Return the source."""
    return [FastestDetSource()]


class _Body(nn.Module):
    """ShuffleNet V2 (Ma et al., 2018); returns the maps of strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = _layers((3, STEM, 3, 2, 1, True))
        inputs = (STEM, *WIDTHS)
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(
                _Block(inputs[i], width, 2),
                *(_Block(width, width, 1) for _ in range(DEPTHS[i] - 1)),
            )
            for i, width in enumerate(WIDTHS)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = F.max_pool2d(self.first_conv(images), 3, 2, 1), []
        for stage in (self.stage2, self.stage3, self.stage4):
            x = stage(x)
            maps.append(x)
        return maps


class _Block(nn.Module):
    """Half of the channels pass, the other half is filtered; with stride 2 both are filtered."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        mine = inputs if stride > 1 else inputs // 2
        self.branch_main = _layers(
            (mine, half, 1, 1, 1, True),
            (half, half, 3, stride, half, False),
            (half, outputs - half, 1, 1, 1, True),
        )
        self.branch_proj = (
            _layers((inputs, inputs, 3, stride, inputs, False), (inputs, inputs, 1, 1, 1, True))
            if stride > 1
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.branch_proj is not None:
            return torch.cat([self.branch_proj(x), self.branch_main(x)], 1)
        return torch.cat([x[:, ::2], self.branch_main(x[:, 1::2])], 1)


class _Neck(nn.Module):
    """Three chains of depthwise convolutions beside each other, added to their input."""

    def __init__(self) -> None:
        super().__init__()
        layer = (NECK, NECK, 5, 1, NECK, True)
        self.Conv1x1 = nn.ModuleDict({"conv1x1": _layers((sum(WIDTHS), NECK, 1, 1, 1, True))})
        self.S1, self.S2, self.S3 = (
            _layers(layer),
            _layers(layer, layer),
            _layers(layer, layer, layer),
        )
        self.output = _layers((3 * NECK, NECK, 1, 1, 1, False))

    def forward(self, maps: Tensor) -> Tensor:
        x = self.Conv1x1["conv1x1"](maps)
        return F.relu(x + self.output(torch.cat([self.S1(x), self.S2(x), self.S3(x)], 1)))


def _layers(*specs: tuple[int, int, int, int, int, bool]) -> nn.Sequential:
    """Chain convolutions: inputs, outputs, kernel, stride, groups, and whether a ReLU follows the norm."""
    chain: list[nn.Module] = []
    for inputs, outputs, kernel, stride, groups, activated in specs:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        chain += [conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if activated else [])]
    return nn.Sequential(*chain)


def _stage(name: str) -> str:
    """Name the stage of a tensor: the stem, the three of the body, and the neck."""
    part = name.split(".")[1]
    if name.startswith("SPP."):
        return "stage4"
    return "stem" if part == "first_conv" else f"stage{int(part[-1]) - 1}"

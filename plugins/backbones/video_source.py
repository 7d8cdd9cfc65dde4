"""Backbones for clips from torchvision: networks of 3-D convolutions, pretrained on Kinetics-400.

Tran et al. (2018), "A Closer Look at Spatiotemporal Convolutions for Action Recognition".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum
from torchvision.models.video import VideoResNet

from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features
from visiongraft.plugins.backbones.errors import unsupported
from visiongraft.plugins.backbones.torchvision_source import load_published, provenance
from visiongraft.preprocess import PreprocessConfig

LAYERS = ("layer1", "layer2", "layer3", "layer4")
CHANNELS, STRIDES = (64, 128, 256, 512), (2, 4, 8, 16)
SIZE = (112, 112)
STAGES = {"stem": "stem", **{layer: f"stage{i}" for i, layer in enumerate(LAYERS, 1)}}


class VideoBackbone(Backbone):
    """A residual network over space and time.

    Args:
        model: The network of torchvision; its classifier is dropped.
        info: What is known about it.
    """

    takes_clips: ClassVar[bool] = True

    def __init__(self, model: VideoResNet, info: BackboneInfo) -> None:
        super().__init__(info)
        self.model = nn.ModuleDict({name: model.get_submodule(name) for name in STAGES})

    def forward(self, images: Tensor) -> Features:
        """Compute feature maps and embedding.

        Args:
            images: Clips, float (N, T, 3, H, W); or images (N, 3, H, W), which are clips of one frame.

        Returns:
            Maps as means over time, (N, C_i, H_i, W_i), and the embedding, (N, 512).
        """
        clips = images if images.ndim == 5 else images.unsqueeze(1)
        x, maps = self.model["stem"](clips.transpose(1, 2)), []
        for layer in LAYERS:
            x = self.model[layer](x)
            maps.append(x.mean(2))
        return Features(tuple(maps), x.mean((2, 3, 4)))

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        """Return the residual blocks."""
        return [block for layer in LAYERS for block in self.model[layer].children()]

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Name the tensors of torchvision's files as this module does; drop the classifier."""
        return {
            name if name.startswith("model.") else f"model.{name}": tensor
            for name, tensor in weights.items()
            if not name.startswith("fc.")
        }


class TorchvisionVideoSource(BackboneSource):
    """Provides the video networks of torchvision that consist of 3-D convolutions."""

    prefix = "torchvision_video"

    def names(self) -> Sequence[str]:
        return ("mc3_18", "r2plus1d_18", "r3d_18")

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        full = f"{self.prefix}/{name}"
        if in_channels != 3:
            raise unsupported(full, None, f"it takes 3 channels, not {in_channels}")
        published: WeightsEnum = torchvision.models.get_model_weights(name).DEFAULT
        transforms = published.transforms()
        model: VideoResNet = torchvision.models.get_model(name, weights=None)
        names = [n for n, _ in (*model.named_parameters(), *model.named_buffers())]
        info = BackboneInfo(
            name=full,
            stage_of={
                f"model.{n}": stage
                for part, stage in STAGES.items()
                for n in names
                if n.startswith(f"{part}.")
            },
            channels=CHANNELS,
            strides=STRIDES,
            embedding_dim=CHANNELS[-1],
            preprocess=PreprocessConfig(
                size=size or SIZE,
                mean=tuple(transforms.mean),
                std=tuple(transforms.std),
                crop_fraction=SIZE[0] / transforms.resize_size[0],
            ),
            provenance=provenance(published, pretrained),
        )
        backbone = VideoBackbone(model, info)
        if pretrained:
            load_published(backbone, published)
        return backbone

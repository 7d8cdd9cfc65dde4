"""Backbones for clips from torchvision, pretrained on Kinetics-400: 3-D convolutions and transformers.

Tran et al. (2018), "A Closer Look at Spatiotemporal Convolutions for Action Recognition"; Liu et al. (2022),
"Video Swin Transformer"; Li et al. (2022), "MViTv2".
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features
from visiongraft.plugins.backbones.errors import unsupported
from visiongraft.plugins.backbones.torchvision_source import load_published, provenance
from visiongraft.preprocess import PreprocessConfig

LENGTHS = (1, 2, 11, 2)  # of mvit_v2_s: blocks of each stage


class ClipBackbone(Backbone):
    """A network over space and time.

    Args:
        model: The network of torchvision; its classifier is dropped.
        info: What is known about it.

    Attributes:
        parts: The stage of each part of the network, by the beginning of the names of its tensors.
        channels: Channels of the feature maps.
        strides: Their strides.
        size: Height and width that the network was trained with.
        classifier: Name of the classifier.
    """

    takes_clips: ClassVar[bool] = True
    parts: ClassVar[Mapping[str, str]]
    channels: ClassVar[tuple[int, ...]]
    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)
    size: ClassVar[tuple[int, int]] = (224, 224)
    classifier: ClassVar[str] = "head"

    def __init__(self, model: nn.Module, info: BackboneInfo) -> None:
        super().__init__(info)
        setattr(model, self.classifier, nn.Identity())
        self.model = model

    def forward(self, images: Tensor) -> Features:
        """Compute feature maps and embedding.

        Args:
            images: Clips, float (N, T, 3, H, W); or images (N, 3, H, W), which are clips of one frame.

        Returns:
            Maps as means over time, (N, C_i, H_i, W_i), and the embedding, (N, dim).
        """
        clips = images if images.ndim == 5 else images.unsqueeze(1)
        return self.features_of(clips.transpose(1, 2))

    @abstractmethod
    def features_of(self, clips: Tensor) -> Features:
        """Compute feature maps and embedding of clips, float (N, 3, T, H, W)."""

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Name the tensors of torchvision's files as this module does; drop the classifier."""
        return {
            name if name.startswith("model.") else f"model.{name}": tensor
            for name, tensor in weights.items()
            if not name.startswith(f"{self.classifier}.")
        }


class VideoResNet(ClipBackbone):
    """A residual network of 3-D convolutions."""

    parts: ClassVar[Mapping[str, str]] = {
        "stem": "stem",
        **{f"layer{i}": f"stage{i}" for i in range(1, 5)},
    }
    channels = (64, 128, 256, 512)
    strides = (2, 4, 8, 16)
    size = (112, 112)
    classifier = "fc"

    def features_of(self, clips: Tensor) -> Features:
        """Compute feature maps and embedding of clips, float (N, 3, T, H, W)."""
        x, maps = self.model.get_submodule("stem")(clips), []
        for layer in self._layers():
            x = layer(x)
            maps.append(x.mean(2))
        return Features(tuple(maps), x.mean((2, 3, 4)))

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        """Return the residual blocks."""
        return [block for layer in self._layers() for block in layer.children()]

    def _layers(self) -> list[nn.Module]:
        return [self.model.get_submodule(part) for part in self.parts if part != "stem"]


class VideoSwin(ClipBackbone):
    """A transformer whose attention is within windows over space and time."""

    parts: ClassVar[Mapping[str, str]] = {
        "patch_embed": "stem",
        "features.0": "stage1",
        **{f"features.{i}": f"stage{i // 2 + 1 + i % 2}" for i in range(1, 7)},
        "norm": "stage4",
    }
    channels = (96, 192, 384, 768)

    def features_of(self, clips: Tensor) -> Features:
        """Compute feature maps and embedding of clips, float (N, 3, T, H, W)."""
        x, maps = self.model.get_submodule("patch_embed")(clips), []
        for i, layer in enumerate(self.model.get_submodule("features").children()):
            x = layer(x)
            if not i % 2:  # the others join patches
                maps.append(x.mean(1).permute(0, 3, 1, 2))
        x = self.model.get_submodule("norm")(x)
        return Features(tuple(maps), x.mean((1, 2, 3)))

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        """Return the blocks."""
        layers = list(self.model.get_submodule("features").children())[::2]
        return [block for layer in layers for block in layer.children()]


class VideoMViT(ClipBackbone):
    """A transformer whose attention pools over space and time; its embedding is a token."""

    parts: ClassVar[Mapping[str, str]] = {
        "conv_proj": "stem",
        "pos_encoding": "stem",
        **{
            f"blocks.{sum(LENGTHS[:i]) + j}": f"stage{i + 1}"
            for i, length in enumerate(LENGTHS)
            for j in range(length)
        },
        "norm": "stage4",
    }
    channels = (96, 192, 384, 768)

    def features_of(self, clips: Tensor) -> Features:
        """Compute feature maps and embedding of clips, float (N, 3, T, H, W)."""
        patches = self.model.get_submodule("conv_proj")(clips)
        # Relative positions are interpolated, so that clips may have another size than in training.
        size: tuple[int, ...] = tuple(patches.shape[2:])
        x = self.model.get_submodule("pos_encoding")(patches.flatten(2).transpose(1, 2))
        blocks, maps = iter(self.checkpointed_modules()), []
        for length in LENGTHS:
            for _ in range(length):
                x, size = next(blocks)(x, size)
            maps.append(x[:, 1:].unflatten(1, size).mean(1).permute(0, 3, 1, 2))
        return Features(tuple(maps), self.model.get_submodule("norm")(x)[:, 0])

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        """Return the blocks."""
        return list(self.model.get_submodule("blocks").children())


KINDS: dict[str, type[ClipBackbone]] = {
    "mc3_18": VideoResNet,
    "mvit_v2_s": VideoMViT,
    "r2plus1d_18": VideoResNet,
    "r3d_18": VideoResNet,
    "swin3d_t": VideoSwin,
}


class TorchvisionVideoSource(BackboneSource):
    """Provides networks of torchvision that take clips as wholes."""

    prefix = "torchvision_video"

    def names(self) -> Sequence[str]:
        return tuple(KINDS)

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        full, kind = f"{self.prefix}/{name}", KINDS[name]
        if in_channels != 3:
            raise unsupported(full, None, f"it takes 3 channels, not {in_channels}")
        published: WeightsEnum = torchvision.models.get_model_weights(name).DEFAULT
        transforms = published.transforms()
        model: nn.Module = torchvision.models.get_model(name, weights=None)
        names = [n for n, _ in (*model.named_parameters(), *model.named_buffers())]
        info = BackboneInfo(
            name=full,
            stage_of={
                f"model.{n}": stage
                for part, stage in kind.parts.items()
                for n in names
                if n.startswith(f"{part}.")
            },
            channels=kind.channels,
            strides=kind.strides,
            embedding_dim=kind.channels[-1],
            preprocess=PreprocessConfig(
                size=size or kind.size,
                mean=tuple(transforms.mean),
                std=tuple(transforms.std),
                crop_fraction=kind.size[0] / transforms.resize_size[0],
            ),
            provenance=provenance(published, pretrained),
        )
        backbone = kind(model, info)
        if pretrained:
            load_published(backbone, published)
        return backbone

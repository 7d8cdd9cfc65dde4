"""From feature maps to images, and images and targets at the size of the network's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import BackboneInfo, Features
from visiongraft.plugins.dense.decoders import blank_image, unet
from visiongraft.plugins.dense.pyramid import EncoderLevels
from visiongraft.plugins.translation.critic import COLORS
from visiongraft.preprocess import Preprocess


class ImageHead(nn.Module):
    """The decoder of a U-Net, up to the resolution of the input (Ronneberger et al., 2015).

    Args:
        info: Facts about the backbone.
        channels: Width of the decoder; 0 for its default.
        instance_norm: Normalize each image by itself instead of batches.
        residual: Whether the values are a change of the input, which then begins as none at all.
    """

    def __init__(
        self,
        info: BackboneInfo,
        channels: int,
        instance_norm: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.pyramid = EncoderLevels(info)
        self.decoder = unet(self.pyramid, COLORS, channels, instance_norm)
        if residual:
            self.decoder.begin_at_zero()

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Compute values of pixels around 0.

        Args:
            features: The feature maps are used.

        Returns:
            ``image``, float (N, 3, h, w), at the decoder's resolution; see ``made_images``.
        """
        blank = blank_image(features)
        if blank is not None:
            return {"image": self(blank)["image"][:0]}
        return {"image": self.decoder(self.pyramid, features)}


def made_images(values: Tensor, images: Tensor, preprocess: Preprocess, residual: bool) -> Tensor:
    """Make images of what the head returned.

    Args:
        values: float (N, 3, h, w), around 0.
        images: float (N, C, height, width), the network's input.
        preprocess: What normalized the input.
        residual: Whether the values are a change of the input; otherwise of a medium gray.

    Returns:
        float32 (N, 3, height, width), nominally in 0..1 but not clipped.
    """
    size = images.shape[-2:]
    values = F.interpolate(values.float(), size=size, mode="bilinear", align_corners=False)
    return values + (inputs_as_images(images, preprocess) if residual else 0.5)


def inputs_as_images(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Return what images were before they were normalized.

    Args:
        images: float (N, C, height, width), the network's input, of 1 or 3 channels.
        preprocess: What normalized it.

    Returns:
        float32 (N, 3, height, width) in 0..1.
    """
    return (preprocess.denormalize(images) / 255).expand(-1, COLORS, -1, -1)


def targets_at_input(
    targets: Tensor | Sequence[Tensor], size: torch.Size, preprocess: Preprocess
) -> tuple[Tensor, Tensor]:
    """Resize or pad targets like their images, and stack them.

    Args:
        targets: uint8 (H, W, 3) per image, of any size.
        size: Height and width of the network's input.
        preprocess: What resized the images.

    Returns:
        The targets, float32 (N, 3, height, width) in 0..1; and where they are not padding, float32
        (N, 1, height, width) of 0 and 1.
    """
    aligned, inside = [], []
    for target in targets:
        resized = preprocess.resize(target[None]) / 255
        below, right = size[0] - resized.shape[-2], size[1] - resized.shape[-1]
        aligned.append(F.pad(resized, (0, right, 0, below)))
        inside.append(F.pad(torch.ones_like(resized[:, :1]), (0, right, 0, below)))
    return torch.cat(aligned), torch.cat(inside)

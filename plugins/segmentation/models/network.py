"""Decoders with the outputs of segmentation."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from visiongraft.backbone import BackboneInfo, Features
from visiongraft.plugins.dense.decoders import DECODERS, blank_image
from visiongraft.plugins.dense.pyramid import EncoderLevels


class SegmentationNetwork(nn.Module):
    """A decoder with its output layer and, optionally, an auxiliary head.

    Args:
        info: Facts about the backbone.
        decoder: One of ``DECODERS``.
        outputs: Number of logits per pixel.
        channels: Width of the decoder; 0 for its default.
        auxiliary: Whether to add an FCN head on the level before the deepest, as in torchvision's
            models; it is used in training only.
    """

    def __init__(
        self, info: BackboneInfo, decoder: str, outputs: int, channels: int, auxiliary: bool
    ) -> None:
        super().__init__()
        self.pyramid = EncoderLevels(info)
        self.decoder: nn.Module = DECODERS[decoder](self.pyramid, outputs, channels)
        self.auxiliary: nn.Module | None = None
        if auxiliary:
            self.auxiliary_level = max(self.pyramid.deepest - 1, 1)
            self.auxiliary = FCNHead(self.pyramid.width(self.auxiliary_level), outputs)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Compute logits.

        Args:
            features: The feature maps are used.

        Returns:
            ``logits``, (N, outputs, h, w), at the decoder's resolution; in training also
            ``auxiliary``, of the same form.
        """
        blank = blank_image(features)
        if blank is not None:
            return {name: values[:0] for name, values in self(blank).items()}
        outputs = {"logits": self.decoder(self.pyramid, features)}
        if self.auxiliary is not None and self.training:
            (level,) = self.pyramid(features, [self.auxiliary_level])
            outputs["auxiliary"] = self.auxiliary(level)
        return outputs

"""Perceptual loss: images are alike if the pretrained backbone sees the same in them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.network import Network
from visiongraft.plugins.losses.checks import check_strength
from visiongraft.plugins.translation.critic import COLORS
from visiongraft.plugins.translation.head import made_images, targets_at_input
from visiongraft.plugins.translation.task import Translation
from visiongraft.preprocess import Preprocess
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class Perceptual(TransferLoss):
    """Distance of images from their targets in the feature maps of the source backbone.

    ``strength * mean over maps l of mean(sum over channels of (u_l - v_l)^2)``: means over images and
    positions, for the source's maps ``u_l`` of the images and ``v_l`` of the targets, of length 1 at
    each position (Johnson et al., 2016, "Perceptual Losses"; the normalization is that of Zhang et al.,
    2018, "The Unreasonable Effectiveness of Deep Features", without learned weights).

    The source is read-only: it stays as it was before training while the backbone trains, and receipts
    prove it.

    Args:
        backbone: The backbone that will train.
        source: The read-only copy.
        strength: Weight of the loss.
    """

    name: ClassVar[str] = "perceptual"
    reads_features: ClassVar[bool] = True
    reads_outputs: ClassVar[bool] = True
    checked_with: ClassVar[str | None] = Translation.name

    def __init__(self, backbone: Backbone, source: Backbone, *, strength: float = 0.1) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        self.strength = strength
        self.preprocess = Preprocess(source.info.preprocess)

    def set_up(self, network: Network) -> None:
        if not isinstance(network.task, Translation):
            raise OptionError(
                "transfer loss 'perceptual' compares images with their targets, which task "
                f"{network.task.name!r} does not have; use it with task 'translation'"
            )
        channels = network.backbone.info.in_channels
        if channels != COLORS:
            raise OptionError(
                f"transfer loss 'perceptual' needs a backbone that takes RGB images, not {channels} channels"
            )

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the part ``maps``."""
        task, batch = step.task, step.batch
        assert isinstance(task, Translation)
        size = batch.images.shape[-2:]
        wanted, inside = targets_at_input(batch.targets, size, self.preprocess)
        made = made_images(step.outputs["image"], batch.images, self.preprocess, task.residual)
        with torch.no_grad():
            expected = self._maps(step.source, wanted)
        distances = [
            (one - other).square().sum(1).mean()
            for one, other in zip(self._maps(step.source, made * inside), expected, strict=True)
        ]
        return {"maps": self.strength * torch.stack(distances).mean()}

    def _maps(self, source: Backbone, images: Tensor) -> list[Tensor]:
        features = source(self.preprocess.normalize(images * 255))
        return [F.normalize(values.float(), dim=1) for values in features.maps]

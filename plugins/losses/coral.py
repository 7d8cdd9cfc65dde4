"""Deep CORAL: features of both domains with the same covariance."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from visiongraft.backbone import Backbone
from visiongraft.network import Network
from visiongraft.plugins.losses.checks import check_strength, warn_of_small_batches
from visiongraft.plugins.losses.domains import STREAM, is_dense, points_of
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class DeepCoral(TransferLoss):
    """Deep CORAL: equal covariances of source and target features (Sun and Saenko, 2016).

    With the covariances C_s and C_t (D, D), divided by the number of vectors minus 1, of the embeddings
    of labeled images and of the stream ``unlabelled``:
    ``strength * ||C_s - C_t||_F^2 / mean(||C_s||_F^2, ||C_t||_F^2)``.

    The paper divides by ``4 * D^2`` instead, so that the strength depends on the scale and the
    length of the embeddings, and is chosen anew for each network; and embeddings that shrink to zero
    make its loss zero. The quotient depends on neither, and has no gradient along a common scale. TLlib
    adds the distance of the means, which the paper does not.

    Tasks that predict maps are adapted by the positions of the deepest feature map. The loss
    compares the images of a batch, so that gradient accumulation and several processes are not one
    large batch.

    Args:
        backbone: The backbone that will train.
        source: Not used.
        strength: Weight of the loss.
    """

    name: ClassVar[str] = "coral"
    reads_features: ClassVar[bool] = True
    streams: ClassVar[tuple[str, ...]] = (STREAM,)
    adapts_to: ClassVar[tuple[str, ...]] = (STREAM,)

    def __init__(self, backbone: Backbone, source: Backbone, *, strength: float = 0.01) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        self.strength = strength

    def set_up(self, network: Network) -> None:
        """Note in which vectors domains are compared."""
        self.dense = is_dense(network.task)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the part ``covariance``."""
        own, other = (
            points_of(features, self.dense).float().flatten(0, 1)
            for features in (step.features, step.stream_features(STREAM))
        )
        if min(len(own), len(other)) < 2:
            warn_of_small_batches(self, step, 2)
        with torch.autocast(own.device.type, enabled=False):
            return {"covariance": self.strength * covariance_distance(own, other)}


def covariance_distance(own: Tensor, other: Tensor) -> Tensor:
    """Compute the squared distance of two covariances, relative to their mean square.

    Args:
        own: float32 (M, D).
        other: float32 (N, D).

    Returns:
        A scalar from 0 to 2; 0 if one of them has fewer than two vectors.
    """
    if min(len(own), len(other)) < 2:
        return 0.0 * (own.sum() + other.sum())
    one, two = _covariance(own), _covariance(other)
    scale = (one.square().sum() + two.square().sum()) / 2
    return (one - two).square().sum() / scale.clamp_min(torch.finfo(scale.dtype).tiny)


def _covariance(vectors: Tensor) -> Tensor:
    centered = vectors - vectors.mean(0)
    return centered.T @ centered / (len(vectors) - 1)

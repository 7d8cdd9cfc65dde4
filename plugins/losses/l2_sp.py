"""L2-SP: the squared distance of the weights from their pretrained values."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from visiongraft.backbone import Backbone
from visiongraft.plugins.losses.checks import check_strength
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class L2SP(TransferLoss):
    """L2-SP: half the squared distance to the starting point (Li et al., 2018).

    Loss: ``alpha / 2 * sum (w - w0)^2`` over the backbone's trainable parameters, and
    ``beta / 2 * sum w^2`` over the head's. It replaces weight decay, so ``weight_decay=0`` goes with
    it. Frozen parameters do not count.

    As in the paper these are sums over weights, not means: each weight is pulled back with
    ``alpha * (w - w0)`` in any network, like by weight decay, while the value of the loss grows with
    the number of weights.

    Args:
        backbone: The backbone that will train.
        source: The starting point.
        alpha: Weight of the distance from the backbone's starting values; of a list of weights, a run
            tries each and keeps the best.
        beta: Weight of the head's squared norm.
    """

    name: ClassVar[str] = "l2_sp"
    strength_option: ClassVar[str] = "alpha"

    def __init__(
        self, backbone: Backbone, source: Backbone, *, alpha: float = 0.1, beta: float = 0.01
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, alpha=alpha, beta=beta)
        self.alpha, self.beta = alpha, beta

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the two parts, ``backbone`` and ``head``."""
        origin = dict(step.source.named_parameters())
        moved = [p - origin[n] for n, p in step.backbone.named_parameters() if p.requires_grad]
        like = next(iter(origin.values()))
        return {
            "backbone": self.alpha / 2 * _squared_norm(moved, like),
            "head": self.beta / 2 * _squared_norm(list(step.head.parameters()), like),
        }


def _squared_norm(tensors: list[Tensor], like: Tensor) -> Tensor:
    """Sum the squares of all values of tensors; of none it is a zero like another tensor."""
    if not tensors:
        return like.new_zeros(())
    return torch.stack([t.square().sum() for t in tensors]).sum()

"""Batch spectral shrinkage: suppress the weakest directions of the features."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.plugins.losses.checks import check_count, check_strength, warn_of_small_batches
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class BSS(TransferLoss):
    """BSS: shrink the smallest singular values of a batch's embeddings (Chen et al., 2019).

    With the embeddings of a batch as matrix F (N, D) and its singular values s_1 >= s_2 >= ... :
    ``strength * sum of the k smallest s_i^2 / mean of all s_i^2``, where the mean has no gradient.

    The paper's loss is ``eta * sum of the k smallest s_i^2``, which grows with the batch size and
    with the square of the features. The quotient depends on neither; its gradient has the same
    direction. There are ``min(N, D)`` singular values, and fewer than ``k + 1`` samples are left
    alone. The loss compares the samples of a batch, so that gradient accumulation and several
    processes are not one large batch.

    Args:
        backbone: The backbone that will train.
        source: Not used.
        strength: Weight of the loss.
        k: Number of singular values.
    """

    name: ClassVar[str] = "bss"
    reads_features: ClassVar[bool] = True

    def __init__(
        self, backbone: Backbone, source: Backbone, *, strength: float = 0.01, k: int = 1
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_count(self.name, k=k)
        if k >= backbone.info.embedding_dim:
            raise OptionError(
                f"k={k} of bss is not below the {backbone.info.embedding_dim} values of an embedding of "
                f"backbone {backbone.info.name!r}"
            )
        self.strength, self.k = strength, k

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the part ``spectrum``."""
        pooled = step.features.pooled
        with torch.autocast(pooled.device.type, enabled=False):  # half precision has no SVD
            squares = torch.linalg.svdvals(pooled.float()).square()  # in descending order
        if len(squares) <= self.k:
            warn_of_small_batches(self, step, self.k + 1)
            return {"spectrum": 0.0 * pooled.sum()}
        scale = squares.detach().mean().clamp_min(torch.finfo(squares.dtype).tiny)
        return {"spectrum": self.strength * squares[-self.k :].sum() / scale}

"""DELTA: feature maps stay near those of the source, important channels most of all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.backbone import Backbone
from visiongraft.data.batch import class_ids
from visiongraft.options import check_flag
from visiongraft.plugins.losses.checks import check_strength
from visiongraft.plugins.losses.classes import fit_logistic
from visiongraft.training.transfer_losses import TransferLoss, TransferStep

PROBE_DECAY = 0.01  # of the linear classifier whose loss tells how important a channel is
SOFTENING = 5.0  # what the paper's code divides standardized importances by, before the softmax


class Delta(TransferLoss):
    """DELTA: keep the feature maps near the source's, weighted by attention (Li et al., 2019).

    ``strength / 2 * mean over maps l of sum over channels c of
    w_lc * mean((F_lc - F0_lc)^2) / mean(F0_l^2)``: means over images and positions, for the maps
    F_l (N, C_l, H_l, W_l) of the backbone and F0_l of the source. The ``w_lc`` of a map sum to 1.

    The weights tell how much a linear classifier on the source's embeddings, fitted to the training
    set, loses by the removal of a channel: importances are standardized over the channels of a map,
    divided by 5, and put through a softmax, as in the paper's code. Where targets are not one class
    id per image, all channels of a map have the same weight, the paper's variant without attention.

    Deviations from the paper and TLlib: these sum over images and layers, so that the strength
    depends on the batch size and the model; here everything is relative to the source's maps on the
    training set. They remove each channel in turn, one pass each; here the loss of its removal is
    the first-order estimate ``-sum(F_lc * dL/dF_lc)``, which takes one pass for all. Their decay of
    the head is left to ``weight_decay``.

    Args:
        backbone: The backbone that will train.
        source: The read-only copy.
        strength: Weight of the loss.
        attention: Whether channels are weighted; if not, all weigh the same.
    """

    name: ClassVar[str] = "delta"
    reads_features: ClassVar[bool] = True
    weights: Tensor
    scales: Tensor

    def __init__(
        self,
        backbone: Backbone,
        source: Backbone,
        *,
        strength: float = 0.1,
        attention: bool = True,
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_flag("attention", attention)
        self.strength, self.attention = strength, attention
        self.channels = source.info.channels
        equal = torch.cat([torch.full((c,), 1 / c) for c in self.channels])
        self.register_buffer("weights", equal)  # of all channels of all maps, one after another
        self.register_buffer("scales", torch.ones(len(self.channels)))

    def prepare(self, steps: Iterable[TransferStep]) -> None:
        """Measure the source's maps, and how important their channels are."""
        squares, count = torch.zeros(len(self.channels), dtype=torch.float64), 0
        embeddings, targets = [], []
        for step in steps:
            maps = step.features.maps
            squares += torch.stack([m.double().square().mean((1, 2, 3)).sum() for m in maps]).cpu()
            count += len(step.images)
            embeddings.append(step.features.pooled.double().cpu())
            targets.append(class_ids(step.batch.targets))
        means = squares / count
        self.scales.copy_(torch.where(means > 0, means, torch.ones_like(means)))
        ids = [each.cpu() for each in targets if each is not None]
        if self.attention and len(ids) == len(targets):
            probe = _probe(torch.cat(embeddings), torch.cat(ids))
            rises = self._rises(steps, *probe)
            self.weights.copy_(torch.cat([attention_of(rise) for rise in rises]))

    def _rises(self, steps: Iterable[TransferStep], weight: Tensor, bias: Tensor) -> list[Tensor]:
        """Estimate how much the probe's loss rises by the removal of each channel of each map."""
        rises = [torch.zeros(c, dtype=torch.float64) for c in self.channels]
        for step in steps:
            ids = class_ids(step.batch.targets)
            assert ids is not None
            with torch.enable_grad():
                features = step.source(step.images.clone().requires_grad_(True))
                pooled = features.pooled.double()
                logits = pooled @ weight.T.to(pooled.device) + bias.to(pooled.device)
                loss = F.cross_entropy(logits, ids, reduction="sum")
                gradients = torch.autograd.grad(loss, features.maps, allow_unused=True)
            for rise, values, gradient in zip(rises, features.maps, gradients, strict=True):
                if gradient is not None:  # a map that nothing else is computed from
                    rise -= (values.detach() * gradient).sum((0, 2, 3)).double().cpu()
        return rises

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the part ``maps``."""
        pairs = zip(step.features.maps, step.source_features().maps, strict=True)
        weights = self.weights.split(self.channels)
        parts = []
        for (values, wanted), weight, scale in zip(pairs, weights, self.scales, strict=True):
            moved = (values.float() - wanted.float()).square().mean((0, 2, 3))
            parts.append((weight * moved).sum() / scale)
        return {"maps": self.strength / 2 * torch.stack(parts).mean()}


def attention_of(rises: Tensor) -> Tensor:
    """Convert the importances of a map's channels to weights.

    Args:
        rises: (C,), how much the loss rises by the removal of each channel.

    Returns:
        (C,), positive, with the sum 1.

    Examples:
        >>> attention_of(torch.tensor([2.0, 2.0]))
        tensor([0.5000, 0.5000])
    """
    deviation = rises.std(correction=0)
    if deviation == 0:
        return torch.full_like(rises, 1 / len(rises))
    return ((rises - rises.mean()) / deviation / SOFTENING).softmax(0)


def _probe(embeddings: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a linear classifier to embeddings (N, D), float64; return its matrix and intercept."""
    scale = embeddings.square().mean().sqrt().clamp_min(1e-12)
    weight, bias = fit_logistic(embeddings / scale, ids, int(ids.max()) + 1, decay=PROBE_DECAY)
    return weight / scale, bias

"""CDAN: features and predictions together from which a discriminator cannot tell the domain."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.backbone import Backbone, Features
from visiongraft.network import Network
from visiongraft.options import check_flag
from visiongraft.plugins.losses.checks import check_count, check_strength
from visiongraft.plugins.losses.domains import (
    STREAM,
    Discriminator,
    is_dense,
    point_length,
    points_of,
    ramp,
    reverse,
)
from visiongraft.task import LossParts, Task
from visiongraft.training.class_logits import class_logits, trial_logits
from visiongraft.training.transfer_losses import TransferLoss, TransferStep

USER = "transfer loss 'cdan'"
LARGEST = 4096  # length of the outer product from which it is replaced by a random map
RANDOM = 1024  # length of the random map


class CDAN(TransferLoss):
    """CDAN: conditional domain-adversarial training (Long et al., 2018).

    As ``dann``, but the discriminator sees the outer product of each embedding f (D) and the class
    probabilities g (C), which have no gradient: a vector of C * D values, so that classes are aligned
    one by one. Above 4096 values it sees the random map ``(R_f f) * (R_g g) / sqrt(d)`` instead, with
    d = 1024 and matrices R_f (d, D) and R_g (d, C) of fixed normal random numbers.

    With ``entropy`` (CDAN+E) the loss of each image is weighted by ``1 + exp(-H(g))``, where H is the
    entropy, and divided by the sum of the weights of its domain. Weights have no gradient.

    Tasks that predict maps are adapted position by position of the deepest feature map, with the
    probabilities resized to it.

    Args:
        backbone: The backbone that will train.
        source: Not used.
        strength: Factor on the reversed gradient.
        hidden: Width of the discriminator's two hidden layers.
        entropy: Whether images with sure predictions count more.
    """

    name: ClassVar[str] = "cdan"
    reads_features: ClassVar[bool] = True
    reads_outputs: ClassVar[bool] = True
    streams: ClassVar[tuple[str, ...]] = (STREAM,)
    adapts_to: ClassVar[tuple[str, ...]] = (STREAM,)
    of_features: Tensor | None
    of_classes: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        source: Backbone,
        *,
        strength: float = 0.1,
        hidden: int = 256,
        entropy: bool = True,
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_count(self.name, hidden=hidden)
        check_flag("entropy", entropy)
        self.strength, self.hidden, self.entropy = strength, hidden, entropy

    def set_up(self, network: Network) -> None:
        """Create the discriminator and, for many classes, the random map."""
        self.dense = is_dense(network.task)
        length = point_length(network.backbone, self.dense)
        classes = trial_logits(network, USER).shape[1]
        large = length * classes > LARGEST
        self.register_buffer("of_features", torch.randn(length, RANDOM) if large else None)
        self.register_buffer("of_classes", torch.randn(classes, RANDOM) if large else None)
        self.discriminator = Discriminator(RANDOM if large else length * classes, self.hidden)

    def forward(self, step: TransferStep) -> LossParts:
        """Return the parts ``source`` and ``target``."""
        factor = self.strength * ramp(step.batch.step.progress)

        def part(features: Features, outputs: Any, source: bool) -> tuple[Tensor, Tensor]:
            """Return the weighted sum of half the losses, and the sum of the weights."""
            points = points_of(features, self.dense).float()
            chances = self._chances(step.task, features, outputs)
            joint = self._join(reverse(points, factor), chances)
            losses = self.discriminator.losses(joint, source=source)
            weights = certainties(chances) if self.entropy else torch.ones_like(losses)
            return (losses * weights).sum() / 2, weights.sum()

        class_logits(step.task, step.outputs, USER, step.batch.targets)  # or refused
        stream = step.stream_features(STREAM), step.stream_outputs(STREAM)
        return {
            "source": part(step.features, step.outputs, source=True),
            "target": part(*stream, source=False),
        }

    @torch.no_grad()
    def _chances(self, task: Task, features: Features, outputs: Any) -> Tensor:
        """Return the class probabilities at each point of ``points_of``, (N, P, C)."""
        chances = class_logits(task, outputs, USER).softmax(1)
        if self.dense and chances.ndim == 4:
            height, width = features.maps[-1].shape[-2:]
            chances = F.adaptive_avg_pool2d(chances, (height, width))
        points = chances.movedim(1, -1).reshape(len(chances), -1, chances.shape[1])
        return points if self.dense else points.mean(1, keepdim=True)

    def _join(self, points: Tensor, chances: Tensor) -> Tensor:
        """Combine points (N, P, D) and probabilities (N, P, C) to one vector each."""
        if self.of_features is None or self.of_classes is None:
            return torch.einsum("npd,npc->npdc", points, chances).flatten(2)
        joint: Tensor = (points @ self.of_features) * (chances @ self.of_classes)
        return joint / math.sqrt(RANDOM)


def certainties(chances: Tensor) -> Tensor:
    """Return ``1 + exp(-H)``, where H is the entropy of probabilities (..., C); from 1 to 2."""
    entropies: Tensor = torch.special.entr(chances).sum(-1)
    return 1 + (-entropies).exp()

"""DANN: features from which a discriminator cannot tell the domain."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from visiongraft.backbone import Backbone
from visiongraft.network import Network
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
from visiongraft.task import LossParts
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class DANN(TransferLoss):
    """DANN: domain-adversarial training by gradient reversal (Ganin et al., 2016).

    A discriminator learns to tell the embeddings (N, D) of labeled images, the source domain, from
    those of the stream ``unlabelled``, the target domain; the loss is its binary cross-entropy, half
    of it from each domain, so that ln 2 = 0.69 means that it cannot tell. The backbone gets its
    gradient multiplied by ``-strength * lambda`` with ``lambda = 2 / (1 + exp(-10 p)) - 1``, where p
    is the fraction of the run that has passed. ``strength`` does not slow down the discriminator.

    Tasks that predict maps, such as segmentation, are adapted position by position: each position
    of the deepest feature map is a vector of its own.

    Deviations: p follows the length of the run, not a fixed number of steps as in TLlib; the
    learning rate is the schedule's, and that of the head for the discriminator.

    Args:
        backbone: The backbone that will train.
        source: Not used.
        strength: Factor on the reversed gradient; 1 in the paper, with which small networks that
            train from scratch forgot the source.
        hidden: Width of the discriminator's two hidden layers.
    """

    name: ClassVar[str] = "dann"
    reads_features: ClassVar[bool] = True
    streams: ClassVar[tuple[str, ...]] = (STREAM,)
    adapts_to: ClassVar[tuple[str, ...]] = (STREAM,)

    def __init__(
        self, backbone: Backbone, source: Backbone, *, strength: float = 0.1, hidden: int = 256
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_count(self.name, hidden=hidden)
        self.strength, self.hidden = strength, hidden

    def set_up(self, network: Network) -> None:
        """Create the discriminator."""
        self.dense = is_dense(network.task)
        self.discriminator = Discriminator(point_length(network.backbone, self.dense), self.hidden)

    def forward(self, step: TransferStep) -> LossParts:
        """Return the parts ``source`` and ``target``."""
        factor = self.strength * ramp(step.batch.step.progress)

        def losses(points: Tensor, source: bool) -> Tensor:
            """Return the mean loss of each image, (N,)."""
            return self.discriminator.losses(reverse(points, factor), source=source).mean(1)

        own = losses(points_of(step.features, self.dense), source=True)
        other = losses(points_of(step.stream_features(STREAM), self.dense), source=False)
        return {"source": own.mean() / 2, "target": (other.sum() / 2, len(other))}

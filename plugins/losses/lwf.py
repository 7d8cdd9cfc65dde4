"""Learning without forgetting: the source head's answers to the new images stay what they were."""

from __future__ import annotations

from copy import deepcopy
from typing import ClassVar, Self

from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.plugins.losses.checks import check_positive, check_strength
from visiongraft.plugins.losses.divergence import output_divergence
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class LwF(TransferLoss):
    """LwF: keep the source head's outputs on the new images (Li and Hoiem, 2016).

    ``strength * T^2 * KL(softmax(z_0 / T) || softmax(z / T))``, averaged over images and positions:
    ``z`` are the logits (N, C, ...) of a copy of the source head on the trained backbone, ``z_0``
    those of the source itself, computed in each step for the very same view of each image. The copy
    is trained, as in the paper, and dropped after training. It stays in evaluation mode, so that
    the loss begins at its minimum.

    The paper records ``z_0`` once. TLlib has no factor ``T^2`` (its T = 3 and weight 4 are about
    ``strength=0.4`` here), pairs recorded outputs with other crops, and never trains the copy.

    Args:
        backbone: The backbone that will train.
        source: The read-only copy.
        source_head: The head that it was trained with, which returns class scores.
        strength: Weight of the loss.
        temperature: T.
    """

    name: ClassVar[str] = "lwf"
    reads_features: ClassVar[bool] = True
    needs_source_head: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Backbone,
        source: Backbone,
        source_head: nn.Module,
        *,
        strength: float = 0.1,
        temperature: float = 2.0,
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_positive(self.name, temperature=temperature)
        self.strength, self.temperature = strength, temperature
        self.old_head = deepcopy(source_head).requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; the copy of the source head stays in evaluation mode."""
        super().train(mode)
        self.old_head.eval()
        return self

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the part ``old_outputs``."""
        outputs, wanted = self.old_head(step.features), step.source_outputs()
        divergence = output_divergence(outputs, wanted, self.temperature, "lwf: the source head")
        return {"old_outputs": self.strength * divergence}

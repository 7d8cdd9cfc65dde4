"""Learning without forgetting: the source head's answers to the new images stay what they were."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.plugins.losses.checks import check_positive, check_strength
from visiongraft.plugins.losses.divergence import output_divergence
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class LwF(TransferLoss):
    """LwF: keep the source head's outputs on the new images (Li and Hoiem, 2016).

    ``strength * T^2 * KL(softmax(z_0 / T) || softmax(z / T))``, averaged over images and positions:
    ``z`` are the logits (N, C, ...) of the source head on the trained backbone, ``z_0`` those of the
    source itself, computed in each step for the very same view of each image. The source head is
    neither trained nor in training mode, so that the loss begins at its minimum.

    The paper trains the head along, with small steps of SGD. An optimizer like AdamW, whose steps are
    as large where gradients are tiny, would drive a deep head away from this minimum at once. The
    paper records ``z_0`` once. TLlib does not train the head either, has no factor ``T^2`` (its T = 3
    and weight 4 are about ``strength=0.4`` here), and pairs recorded outputs with other crops.

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
        strength: float = 0.01,
        temperature: float = 2.0,
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_positive(self.name, temperature=temperature)
        self.strength, self.temperature = strength, temperature

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the part ``old_outputs``."""
        assert step.source_head is not None
        outputs, wanted = step.source_head(step.features), step.source_outputs()
        divergence = output_divergence(
            outputs, wanted, self.temperature, "lwf: the source head", "choose another loss"
        )
        return {"old_outputs": self.strength * divergence}

"""MCC: predictions for the target domain that do not confuse classes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from visiongraft.backbone import Backbone
from visiongraft.network import Network
from visiongraft.plugins.losses.checks import check_positive, check_strength
from visiongraft.plugins.losses.domains import STREAM
from visiongraft.training.class_logits import class_logits, trial_logits
from visiongraft.training.measuring.label_free import TEMPERATURE, class_confusion, joint_classes
from visiongraft.training.transfer_losses import TransferLoss, TransferStep

USER = "transfer loss 'mcc'"


class MCC(TransferLoss):
    """MCC: minimum class confusion on the target domain (Jin et al., 2020).

    With the probabilities ``P = softmax(z / T)`` (M, C) of the images of the stream ``unlabelled``,
    their entropies H (M,) and the weights ``w = M * (1 + exp(-H)) / sum(1 + exp(-H))``, which have no
    gradient, the confusion of classes is ``K = P^T diag(w) P`` (C, C), with rows divided by their sums.
    The loss is ``strength * (sum(K) - trace(K)) / C``, from 0 to below 1.

    For class scores of each pixel, pixels take the place of images. The loss compares the images of
    a batch, which should not have far fewer than there are classes; gradient accumulation and
    several processes are not one large batch.

    Args:
        backbone: The backbone that will train.
        source: Not used.
        strength: Weight of the loss.
        temperature: T.
    """

    name: ClassVar[str] = "mcc"
    streams: ClassVar[tuple[str, ...]] = (STREAM,)
    adapts_to: ClassVar[tuple[str, ...]] = (STREAM,)

    def __init__(
        self,
        backbone: Backbone,
        source: Backbone,
        *,
        strength: float = 1.0,
        temperature: float = TEMPERATURE,
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_positive(self.name, temperature=temperature)
        self.strength, self.temperature = strength, temperature

    def set_up(self, network: Network) -> None:
        """Refuse a task without class probabilities."""
        trial_logits(network, USER)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the part ``confusion``."""
        outputs = step.stream_outputs(STREAM)
        logits = class_logits(step.task, outputs, USER, step.batch.targets)
        with torch.autocast(
            logits.device.type, enabled=False
        ):  # small sums vanish in half precision
            joint = joint_classes(logits / self.temperature)
            return {"confusion": self.strength * class_confusion(joint)}

"""Co-Tuning: the source head goes on training, on source classes translated from target classes."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.options import check_choice
from visiongraft.plugins.losses.checks import check_strength
from visiongraft.plugins.losses.classes import class_names, fit_logistic, required_class_ids
from visiongraft.plugins.losses.divergence import describe_shapes
from visiongraft.training.transfer_losses import TransferLoss, TransferStep

RELATIONS = ("direct", "calibrated")
INVERSE_DECAYS = torch.logspace(4, -4, 17, dtype=torch.float64).tolist()
ONE_IN = 5  # images of a class validates the decay and the factor


class CoTuning(TransferLoss):
    """Co-Tuning: train the source head along, on related source classes (You et al., 2020).

    ``strength * mean over images of -sum over source classes s of R[y, s] * log softmax(z)_s``:
    ``z`` (N, S) are the logits of a trained copy of the source head, y the image's class, and R
    (C, S) the probabilities of the source classes given a class; its rows sum to 1. The copy is
    dropped after training and stays in evaluation mode.

    ``relation="direct"``: R[y] is the mean of the source's probabilities over the training images of
    class y, seen without augmentation (the variant that TLlib has).
    ``relation="calibrated"``: a multinomial logistic regression without intercept from the source's
    probabilities to the class; its decay is chosen among 17 values by the accuracy on every fifth
    training image of a class, and one factor is calibrated on them; then Bayes' rule with the mean
    probability of each source class. Unlike in the official code the source's logits are not divided
    by a temperature, and the images held out are training images.

    Args:
        backbone: The backbone that will train.
        source: The read-only copy.
        source_head: The head that it was trained with, which returns logits (N, S).
        strength: Weight of the loss. In short trainings, more takes the backbone to the source classes
            before a new head can use it; 2.3 in the paper, whose trainings are long.
        relation: ``"direct"`` or ``"calibrated"``.
    """

    name: ClassVar[str] = "co_tuning"
    reads_features: ClassVar[bool] = True
    needs_source_head: ClassVar[bool] = True
    relation: Tensor

    def __init__(
        self,
        backbone: Backbone,
        source: Backbone,
        source_head: nn.Module,
        *,
        strength: float = 0.001,
        relation: str = "direct",
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_choice("relation", relation, RELATIONS)
        self.strength, self.how = strength, relation
        self.old_head = deepcopy(source_head).requires_grad_(True)
        self.register_buffer("relation", None)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; the copy of the source head stays in evaluation mode."""
        super().train(mode)
        self.old_head.eval()
        return self

    def prepare(self, steps: Iterable[TransferStep]) -> None:
        """Compute which source classes each class is related to."""
        chances, targets = [], []
        for step in steps:
            logits = step.source_outputs()
            if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
                raise OptionError(
                    "transfer loss 'co_tuning' needs a source head with logits (N, source classes), "
                    f"and this one returns {describe_shapes(logits)}; choose another loss"
                )
            chances.append(logits.double().softmax(1).cpu())
            targets.append(required_class_ids(step, self.name).cpu())
        ids = torch.cat(targets)
        names = class_names(step, ids)
        counts = ids.bincount(minlength=len(names))
        if not counts.all():
            raise OptionError(
                "transfer loss 'co_tuning' needs training images of every class, and "
                f"{names[int(counts.argmin())]!r} has none; leave the class out"
            )
        relate = direct_relation if self.how == "direct" else calibrated_relation
        relation = relate(torch.cat(chances), ids, len(names))
        self.relation = relation.float().to(step.images.device)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the part ``source_classes``."""
        targets = step.batch.targets
        mixed = isinstance(targets, Tensor) and targets.shape[1:] == self.relation.shape[:1]
        wanted = (
            targets.float() @ self.relation
            if mixed
            else self.relation[required_class_ids(step, self.name)]
        )
        logits = self.old_head(step.features).float()
        entropy = -(wanted * F.log_softmax(logits, dim=1)).sum(1).mean()
        return {"source_classes": self.strength * entropy}


def direct_relation(chances: Tensor, ids: Tensor, classes: int) -> Tensor:
    """Return the mean source probabilities of each class.

    Args:
        chances: float64 (N, S), the source's probabilities.
        ids: int64 (N,), every class at least once.
        classes: Number of classes C.

    Returns:
        (C, S); rows sum to 1.
    """
    hot = F.one_hot(ids, classes).to(chances.dtype)
    return (hot.T @ chances) / hot.sum(0)[:, None]


def calibrated_relation(chances: Tensor, ids: Tensor, classes: int) -> Tensor:
    """Return the source probabilities of each class by a calibrated logistic regression.

    Args:
        chances: float64 (N, S), the source's probabilities.
        ids: int64 (N,), every class at least once.
        classes: Number of classes C.

    Returns:
        (C, S); rows sum to 1.
    """
    turn = F.one_hot(ids, classes).cumsum(0).gather(1, ids[:, None])[:, 0]
    out = turn % ONE_IN == 0
    kept = ~out
    if not out.any():  # too few images to hold out one
        kept = out = torch.ones_like(out)
    best, weight = -1.0, torch.zeros(classes, chances.shape[1], dtype=chances.dtype)
    for inverse in INVERSE_DECAYS:
        decay = 1 / (inverse * int(kept.sum()))
        found, _ = fit_logistic(chances[kept], ids[kept], classes, decay=decay, bias=False)
        right = (chances[out] @ found.T).argmax(1) == ids[out]
        if float(right.double().mean()) > best:
            best, weight = float(right.double().mean()), found
    factor = _calibrated(chances[out] @ weight.T, ids[out])
    target_of_source = (weight.T * factor).softmax(1)  # (S, C)
    joint = target_of_source * chances.mean(0)[:, None]
    return joint.T / joint.sum(0)[:, None]


def _calibrated(logits: Tensor, ids: Tensor) -> float:
    """Find the factor of logits (N, C) that has the least cross-entropy."""
    log_factor = logits.new_zeros(()).requires_grad_(True)
    optimizer = torch.optim.LBFGS([log_factor], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        # Bounded, since all-right predictions would be scaled without end.
        loss = F.cross_entropy(logits * log_factor.exp(), ids) + 1e-3 * log_factor.square()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return float(log_factor.detach().exp())

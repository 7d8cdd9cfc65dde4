"""Metric-learning losses of pytorch-metric-learning, in float32 and with sampled classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from visiongraft.errors import OptionError

INITIAL_STD = 0.05  # of class vectors: short ones rotate quickly to the images of their class
EDGE = 1e-6  # the arc cosine has no finite derivative at 1 and -1


@dataclass(frozen=True)
class LossKind:
    """Properties of a loss.

    Attributes:
        over_pairs: Whether it compares images with each other instead of with class weights.
        margin: Default margin; 0 if it has none. SphereFace's paper has 4, with which it does not
            train from the start without annealing.
        scale: Default factor of the similarities; ``None`` if it grows with the number of
            identities.
    """

    over_pairs: bool
    margin: float
    scale: float | None


LOSSES = {
    "softmax": LossKind(False, 0.0, 20.0),
    "arcface": LossKind(False, 0.5, None),
    "cosface": LossKind(False, 0.35, None),
    "sphereface": LossKind(False, 2.0, 1.0),
    "triplet": LossKind(True, 0.2, 1.0),
    "contrastive": LossKind(True, 0.0, 10.0),
}


class UnboundLoss(nn.Module):
    """The loss of a task that knows no identities, with which models predict but do not train."""

    def forward(self, embeddings: Tensor, targets: Any) -> dict[str, Tensor]:
        """Refuse to compare embeddings with classes that are not known.

        Raises:
            OptionError: Always.
        """
        raise OptionError("the task has no identities yet; call read() and bind() first")


def default_scale(identities: int) -> float:
    """Return the default factor of the cosines in losses with a margin.

    The papers' 64 is meant for training sets of tens of thousands of identities. The smallest scale
    at which a class can have a high probability grows with the logarithm of their number (Wang et
    al., 2018, "CosFace", equation 6); a much larger one overfits to few identities.

    Args:
        identities: Number of classes.

    Returns:
        16 up to 1,000 identities, 32 up to 10,000, otherwise 64.
    """
    return 16.0 if identities <= 1_000 else 32.0 if identities <= 10_000 else 64.0


class BoundedCosine(distances.CosineSimilarity):  # type: ignore[misc]
    """Cosine similarity clamped away from 1 and -1, where the derivative of an angle is infinite."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute the similarities."""
        similarities: Tensor = super().forward(*args, **kwargs)
        return similarities.clamp(EDGE - 1, 1 - EDGE)


class ClassWeightLoss(nn.Module):
    """Softmax over identities, each with a learned vector, with or without a margin.

    With ``sampled`` identities, a training step compares with those of its images and with others
    sampled at random, so that its logits are (N, sampled) instead of (N, identities) (An et al.,
    2021, "Partial FC"). Evaluation compares with all.

    Args:
        name: ``"softmax"``, ``"arcface"``, ``"cosface"`` or ``"sphereface"``.
        identities: Number of classes.
        dimension: Length of an embedding.
        margin: The margin: an angle in radians for ArcFace, a cosine for CosFace, an integer factor
            of the angle for SphereFace.
        scale: Factor of the similarities.
        sampled: Number of identities per step; 0 for all.
    """

    def __init__(
        self,
        name: str,
        identities: int,
        dimension: int,
        margin: float,
        scale: float,
        sampled: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.identities = identities
        self.sampled = sampled if sampled < identities else 0
        self.classes: nn.Module = _build(name, identities, dimension, margin, scale)
        nn.init.normal_(self.classes.get_parameter("W"), std=INITIAL_STD)

    def forward(self, embeddings: Tensor, targets: dict[str, Any]) -> dict[str, Tensor]:
        """Compute the loss, in float32 also under mixed precision.

        Args:
            embeddings: (N, dimension), of any length.
            targets: ``labels``, int64 (N,).

        Returns:
            The loss by its name, a mean over the images.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            vectors, labels = embeddings.float(), targets["labels"]
            if self.name == "softmax":  # the only one that does not normalize by itself
                vectors = F.normalize(vectors)
            if self.sampled and self.training:
                loss = self._sampled_loss(vectors, labels)
            else:
                loss = self.classes(vectors, labels)
        return {self.name: loss}

    def _sampled_loss(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss with a sample of the classes, as if there were no others."""
        chosen, positions = sample_classes(labels, self.identities, self.sampled)
        weights = self.classes.get_parameter("W").index_select(1, chosen)
        num_classes = getattr(self.classes, "num_classes", None)
        self.classes.num_classes = len(chosen)  # type: ignore[assignment]
        try:
            loss: Tensor = functional_call(self.classes, {"W": weights}, (vectors, positions))
        finally:
            self.classes.num_classes = num_classes  # type: ignore[assignment]
        return loss


class PairLoss(nn.Module):
    """Triplet loss with semi-hard negatives, or supervised contrastive loss, within a batch.

    Args:
        name: ``"triplet"`` (Schroff et al., 2015, "FaceNet") or ``"contrastive"`` (Khosla et al.,
            2020, "Supervised contrastive learning").
        margin: Distance by which the negative of a triplet must be further away than the positive,
            as Euclidean distance of unit vectors.
        scale: Factor of the similarities in the contrastive loss, the inverse of its temperature.
    """

    def __init__(self, name: str, margin: float, scale: float) -> None:
        super().__init__()
        self.name = name
        self.miner: nn.Module | None = None
        if name == "triplet":
            self.miner = miners.TripletMarginMiner(margin, "semihard")
            self.pairs: nn.Module = losses.TripletMarginLoss(margin)
        else:
            self.pairs = losses.SupConLoss(1 / scale)

    def forward(self, embeddings: Tensor, targets: dict[str, Any]) -> dict[str, Tensor]:
        """Compute the loss, in float32 also under mixed precision.

        Args:
            embeddings: (N, dimension), of any length.
            targets: ``labels``, int64 (N,).

        Returns:
            The loss by its name, a mean over pairs or triplets; 0 if the batch has none.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            vectors, labels = F.normalize(embeddings.float()), targets["labels"]
            mined = None if self.miner is None else self.miner(vectors, labels)
            loss = self.pairs(vectors, labels, mined)
        # Depend on the batch even if it has no pairs, so that every process has a gradient.
        return {self.name: loss + 0 * vectors.sum()}


def sample_classes(labels: Tensor, identities: int, count: int) -> tuple[Tensor, Tensor]:
    """Sample the classes of a step: those of its images, and others at random.

    Args:
        labels: int64 (N,) class ids of the images.
        identities: Number of all classes.
        count: Number of classes to sample; more if the images have more.

    Returns:
        int64 (S,) sampled class ids, ascending, and int64 (N,) the position of the class of each
        image among them.
    """
    present = torch.unique(labels)
    chance = torch.rand(identities, device=labels.device)
    chance[present] = 2.0
    chosen = torch.topk(chance, max(count, len(present))).indices.sort().values
    return chosen, torch.searchsorted(chosen, labels)


def _build(name: str, identities: int, dimension: int, margin: float, scale: float) -> nn.Module:
    loss: nn.Module
    if name == "softmax":
        # Its distance cannot be bounded as the others' are; it is passed unit vectors.
        loss = losses.NormalizedSoftmaxLoss(identities, dimension, temperature=1 / scale)
        return loss
    kind, own_margin = {
        "arcface": (losses.ArcFaceLoss, math.degrees(margin)),
        "cosface": (losses.CosFaceLoss, margin),
        "sphereface": (losses.SphereFaceLoss, int(margin)),
    }[name]
    loss = kind(identities, dimension, margin=own_margin, scale=scale, distance=BoundedCosine())
    return loss

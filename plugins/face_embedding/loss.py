"""Losses of metric learning, by pytorch-metric-learning, in float32 and with sampled classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

INITIAL_STD = 0.05  # of class vectors: short ones turn quickly to the images of their class
EDGE = 1e-6  # the arc cosine has no finite slope at 1 and -1


@dataclass(frozen=True)
class LossKind:
    """A loss by its name.

    Attributes:
        over_pairs: Whether it compares images with each other, not with class weights.
        margin: Its usual margin; 0 if it has none. SphereFace's own is 4, but it does not train at
            that from the start, without a factor that anneals it.
        scale: What similarities are multiplied by as a rule; ``None`` says that it grows with the
            number of identities.
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


def usual_scale(identities: int) -> float:
    """Choose what cosines are multiplied by in losses with a margin.

    The papers' 64 belongs to training sets of tens of thousands of identities. The least scale at
    which a class can be certain grows with the logarithm of their number (Wang et al., 2018,
    "CosFace", equation 6); far above it few identities are learned by heart.

    Args:
        identities: Number of classes.

    Returns:
        16 up to 1,000 identities, 32 up to 10,000, else 64.
    """
    return 16.0 if identities <= 1_000 else 32.0 if identities <= 10_000 else 64.0


class BoundedCosine(distances.CosineSimilarity):  # type: ignore[misc]
    """Cosine similarity that stays off 1 and -1, where the slope of an angle is infinite."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute the similarities."""
        similarities: Tensor = super().forward(*args, **kwargs)
        return similarities.clamp(EDGE - 1, 1 - EDGE)


class ClassWeightLoss(nn.Module):
    """Softmax over identities, each with a learned vector, with or without a margin.

    With ``sampled`` identities a step compares with those of its images and others drawn at
    random, so that its logits are (N, sampled) instead of (N, identities) (An et al., 2021,
    "Partial FC"). Evaluation compares with all.

    Args:
        name: ``"softmax"``, ``"arcface"``, ``"cosface"`` or ``"sphereface"``.
        identities: Number of classes.
        dimension: Length of an embedding.
        margin: The margin: an angle in radians for ArcFace, a cosine for CosFace, a whole factor
            of the angle for SphereFace.
        scale: What similarities are multiplied by.
        sampled: Identities in a step; 0 for all.
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
        self.classes: nn.Module = _MAKE[name](identities, dimension, margin, scale)
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
            if self.name == "softmax":  # the only one that does not do so itself
                vectors = F.normalize(vectors)
            if self.sampled and self.training:
                loss = self._on_some(vectors, labels)
            else:
                loss = self.classes(vectors, labels)
        return {self.name: loss}

    def _on_some(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Compare with a part of the classes, as if there were no others."""
        chosen, positions = sample_classes(labels, self.identities, self.sampled)
        weights = self.classes.get_parameter("W").index_select(1, chosen)
        whole = getattr(self.classes, "num_classes", None)
        self.classes.num_classes = len(chosen)  # type: ignore[assignment]
        try:
            loss: Tensor = functional_call(self.classes, {"W": weights}, (vectors, positions))
        finally:
            self.classes.num_classes = whole  # type: ignore[assignment]
        return loss


class PairLoss(nn.Module):
    """Triplets with semi-hard negatives, or supervised contrast, among the images of a batch.

    Args:
        name: ``"triplet"`` (Schroff et al., 2015, "FaceNet") or ``"contrastive"`` (Khosla et al.,
            2020, "Supervised contrastive learning").
        margin: By how much a triplet's negative must be further away, in Euclidean distance of unit
            vectors.
        scale: What similarities are multiplied by in the contrastive loss, the inverse of its
            temperature.
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
            The loss by its name, a mean over pairs or triplets; 0 where a batch has none.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            vectors, labels = F.normalize(embeddings.float()), targets["labels"]
            mined = None if self.miner is None else self.miner(vectors, labels)
            loss = self.pairs(vectors, labels, mined)
        # Nothing to compare: still of the batch, so that every process has a gradient.
        return {self.name: loss + 0 * vectors.sum()}


def sample_classes(labels: Tensor, identities: int, count: int) -> tuple[Tensor, Tensor]:
    """Choose the classes of a step: those of its images, filled up at random.

    Args:
        labels: int64 (N,) classes of the images.
        identities: Number of all classes.
        count: How many to choose; more if the images have more.

    Returns:
        int64 (S,) chosen classes, ascending, and int64 (N,) the position of each image's class
        among them.
    """
    present = torch.unique(labels)
    chance = torch.rand(identities, device=labels.device)
    chance[present] = 2.0
    chosen = torch.topk(chance, max(count, len(present))).indices.sort().values
    return chosen, torch.searchsorted(chosen, labels)


def _softmax(identities: int, dimension: int, margin: float, scale: float) -> nn.Module:
    # Its own cosine would normalize by a distance that takes no bounds; unit vectors come in.
    loss: nn.Module = losses.NormalizedSoftmaxLoss(identities, dimension, temperature=1 / scale)
    return loss


def _arcface(identities: int, dimension: int, margin: float, scale: float) -> nn.Module:
    loss: nn.Module = losses.ArcFaceLoss(
        identities, dimension, margin=math.degrees(margin), scale=scale, distance=BoundedCosine()
    )
    return loss


def _cosface(identities: int, dimension: int, margin: float, scale: float) -> nn.Module:
    loss: nn.Module = losses.CosFaceLoss(
        identities, dimension, margin=margin, scale=scale, distance=BoundedCosine()
    )
    return loss


def _sphereface(identities: int, dimension: int, margin: float, scale: float) -> nn.Module:
    loss: nn.Module = losses.SphereFaceLoss(
        identities, dimension, margin=int(margin), scale=scale, distance=BoundedCosine()
    )
    return loss


_MAKE: dict[str, Callable[[int, int, float, float], nn.Module]] = {
    "softmax": _softmax,
    "arcface": _arcface,
    "cosface": _cosface,
    "sphereface": _sphereface,
}

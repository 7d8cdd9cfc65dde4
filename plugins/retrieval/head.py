"""From the embedding of an image to the space of the captions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from visiongraft.backbone import Features


class RetrievalHead(nn.Module):
    """A linear layer.

    Args:
        inputs: Dimension of the pooled embedding.
        dim: Length of a caption's vector.
        identity: Start from the identity, for a backbone whose embeddings are in the space of the captions.
    """

    def __init__(self, inputs: int, dim: int, identity: bool) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, dim)
        nn.init.zeros_(self.project.bias)
        if identity:
            nn.init.eye_(self.project.weight)

    def forward(self, features: Features) -> Tensor:
        """Compute vectors, (N, dim), of any length; the pooled embedding is used."""
        vectors: Tensor = self.project(features.pooled)
        return vectors


class ContrastiveLoss(nn.Module):
    """Symmetric InfoNCE between images and captions, with a learned temperature (Radford et al., 2021).

    An image's own captions are positives, and so are equal captions of other images in the batch; the
    target is uniform over all positives.

    Args:
        temperature: To start with.
    """

    MAX_SCALE = 100.0  # of the cosines, as in CLIP

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1 / temperature).log())

    def forward(self, outputs: Tensor, targets: dict[str, Tensor]) -> dict[str, Any]:
        """Compute the loss.

        Args:
            outputs: (N, dim), from the head.
            targets: ``vectors`` (M, dim), ``ids`` (M,) and ``image`` (M,) of the captions of N images.

        Returns:
            ``contrastive``, the mean of both directions.
        """
        images = normalize(outputs.float(), dim=1)
        scale = self.log_scale.exp().clamp(max=self.MAX_SCALE)
        logits = scale * images @ targets["vectors"].T
        rows = torch.arange(len(outputs), device=outputs.device)
        own = (targets["image"][None] == rows[:, None]).to(logits.dtype)
        equal = (targets["ids"][None] == targets["ids"][:, None]).to(logits.dtype)
        positive = ((own @ equal) > 0).to(logits.dtype)
        both = [_cross_entropy(logits, positive), _cross_entropy(logits.T, positive.T)]
        return {"contrastive": torch.stack(both).mean()}


def _cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    wanted = positive / positive.sum(1, keepdim=True)
    return -(wanted * logits.log_softmax(1)).sum(1).mean()

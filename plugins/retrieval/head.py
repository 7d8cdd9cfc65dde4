"""From the embedding of an image to the space of the captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from visiongraft.backbone import Features
from visiongraft.text_encoders import TextNetwork


class RetrievalHead(nn.Module):
    """A linear layer, and the network of the text encoder if that is trained.

    Args:
        inputs: Dimension of the pooled embedding.
        dim: Length of a caption's vector.
        identity: Start from the identity, for a backbone whose embeddings are in the space of the captions.
        text: The network of the text encoder; ``None`` if it stays as it is.
    """

    def __init__(
        self, inputs: int, dim: int, identity: bool, text: TextNetwork | None = None
    ) -> None:
        super().__init__()
        self.text = text
        self.project = nn.Linear(inputs, dim)
        nn.init.zeros_(self.project.bias)
        if identity:
            nn.init.eye_(self.project.weight)

    def forward(self, features: Features) -> Tensor:
        """Compute vectors, (N, dim), of any length; the pooled embedding is used."""
        vectors: Tensor = self.project(features.pooled)
        return vectors

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Convert texts to token ids for ``encode``, int64 (M, length)."""
        assert self.text is not None
        return self.text.tokenize(texts)

    def encode(self, tokens: Tensor) -> Tensor:
        """Compute unit vectors of texts by the network that is trained, float32 (M, dim)."""
        assert self.text is not None
        vectors: Tensor = self.text(tokens)
        return normalize(vectors.float(), dim=1)


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

"""Labeled images in a classifier: what is near one of them is likely of its class."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EmbeddingCache(nn.Module):
    """Adds to the logit of each class how similar an embedding is to those of labeled images.

    Args:
        count: Number of images.
        dim: Dimension of their embeddings.
        classes: Number of classes.
    """

    labels: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, count: int, dim: int, classes: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(count, dim))
        self.register_buffer("labels", torch.zeros(classes, count))  # rows of classes
        self.register_buffer("alpha", torch.tensor(0.0))
        self.register_buffer("beta", torch.tensor(1.0))

    def forward(self, embedded: Tensor) -> Tensor:
        """Compute logits.

        Args:
            embedded: (..., dim), of length 1.

        Returns:
            (..., classes).
        """
        nearness = ((embedded @ self.keys.T - 1) * self.beta).exp()
        logits: Tensor = self.alpha * (nearness @ self.labels.T)
        return logits

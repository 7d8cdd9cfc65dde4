"""The embedding layer on top of the backbone's pooled features."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import Features


class Neck(nn.BatchNorm1d):
    """Batch norm that uses its running statistics for a batch of one image, which has none.

    Such a batch may remain if several processes share the last images of an epoch.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """Normalize (N, D)."""
        if self.training and len(vectors) == 1:
            return F.batch_norm(vectors, self.running_mean, self.running_var, eps=self.eps)
        return super().forward(vectors)


class PooledEmbedding(nn.Module):
    """Take the backbone's embedding as it is, for networks that were trained to embed."""

    def forward(self, features: Features) -> Tensor:
        """Return the pooled features, (N, dimension)."""
        return features.pooled


class EmbeddingHead(nn.Module):
    """Dropout, a linear layer and, as the neck, a batch norm without affine parameters.

    The linear layer is initialized as an orthogonal projection, which nearly preserves the angles
    between the features of a pretrained backbone. Its weights are of size 1 and are divided in the
    forward pass by the square root of their number, so that a step of an optimizer such as Adam,
    whose size does not depend on that of the weights, rotates them little: with weights of the usual
    size, the learning rate of a new head would destroy within an epoch what the features are worth
    for people who are not in training. The loss and ``decode`` normalize the vectors later, in
    float32: the squares of a long vector overflow half precision.

    Args:
        inputs: Length of the pooled features.
        dimension: Length of the embedding.
        dropout: Fraction of the features to drop in training, in [0, 1).
        batch_norm: Whether to add the neck (Luo et al., 2019, "Bag of tricks for person
            re-identification"; ArcFace has one too).
    """

    def __init__(
        self, inputs: int, dimension: int, dropout: float = 0.0, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.output = nn.Linear(inputs, dimension, bias=False)
        self.neck = Neck(dimension, affine=False) if batch_norm else nn.Identity()
        self.scale = inputs**-0.5
        nn.init.orthogonal_(self.output.weight, gain=inputs**0.5)

    def forward(self, features: Features) -> Tensor:
        """Compute embeddings.

        Args:
            features: Features whose ``pooled`` has the shape (N, inputs).

        Returns:
            (N, dimension), not normalized.
        """
        embeddings: Tensor = self.neck(self.output(self.dropout(features.pooled) * self.scale))
        return embeddings

"""The embedding layer on top of the backbone's pooled features."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import Features


class Neck(nn.BatchNorm1d):
    """Batch norm that takes a batch of one image, of which there are no statistics, as it is.

    Such a batch is what is left where several processes share the last images of an epoch.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """Normalize (N, D)."""
        if self.training and len(vectors) == 1:
            return F.batch_norm(vectors, self.running_mean, self.running_var, eps=self.eps)
        return super().forward(vectors)


class EmbeddingHead(nn.Module):
    """Dropout, a linear layer and, as neck, a batch norm without scale and shift of its own.

    The linear layer begins as an orthogonal projection, which keeps the angles between a pretrained
    backbone's features nearly as they are. Its weights are kept about 1 and divided in each pass by
    the root of their number, so that a step of an optimizer such as Adam, whose size does not depend
    on the weights', turns them little: with weights of usual size, the rate of a new head would undo
    in an epoch what the features are worth for people who are not in training. Vectors are made unit
    vectors later, in float32, by the loss and by ``decode``: the squares of a long vector overflow
    half precision.

    Args:
        inputs: Length of the pooled features.
        dimension: Length of the embedding.
        dropout: Share of the features that is dropped in training, in [0, 1).
        batch_norm: Whether there is a neck (Luo et al., 2019, "Bag of tricks for person
            re-identification"; ArcFace ends in one too).
    """

    def __init__(
        self, inputs: int, dimension: int, dropout: float = 0.0, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.output = nn.Linear(inputs, dimension, bias=False)
        self.neck = Neck(dimension, affine=False) if batch_norm else nn.Identity()
        self.shrink = inputs**-0.5
        nn.init.orthogonal_(self.output.weight, gain=inputs**0.5)

    def forward(self, features: Features) -> Tensor:
        """Compute embeddings.

        Args:
            features: Their pooled features, (N, inputs), are used.

        Returns:
            (N, dimension), of any length.
        """
        embeddings: Tensor = self.neck(self.output(self.dropout(features.pooled) * self.shrink))
        return embeddings

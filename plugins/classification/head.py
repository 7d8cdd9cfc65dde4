"""The classification head on the pooled embedding."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize

from visiongraft.backbone import Features
from visiongraft.plugins.classification.cache import EmbeddingCache

INITIAL_STD = 0.01


class ClassificationHead(nn.Module):
    """A linear layer, or an MLP with one hidden layer, optionally of vectors of length 1.

    The last layer is initialized near zero, so that training starts from nearly uniform
    probabilities whatever the scale of the embedding.

    Args:
        inputs: Dimension of the pooled embedding.
        outputs: Number of classes.
        hidden: Width of the hidden layer; 0 for none.
        dropout: Dropout probability before the last layer, in [0, 1).
        projection: Width of a linear layer without activation before all else; 0 for none.
        normalize: Whether the input of the last layer is scaled to length 1.
        cached: Number of labeled images whose embeddings add to the logits, see ``EmbeddingCache``; 0
            for none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int = 0,
        dropout: float = 0.0,
        projection: int = 0,
        normalize: bool = False,
        cached: int = 0,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.projection = nn.Linear(inputs, projection) if projection else nn.Identity()
        inputs = projection or inputs
        self.hidden = nn.Linear(inputs, hidden) if hidden else nn.Identity()
        self.activation = nn.GELU() if hidden else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden or inputs, outputs)
        self.cache = EmbeddingCache(cached, hidden or inputs, outputs) if cached else None
        nn.init.normal_(self.output.weight, std=INITIAL_STD)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Features) -> Tensor:
        """Compute logits.

        Args:
            features: The pooled embedding, (N, inputs), is used.

        Returns:
            (N, outputs).
        """
        embedded = self.embed(features.pooled)
        logits: Tensor = self.output(self.dropout(embedded))
        return logits if self.cache is None else logits + self.cache(embedded)

    def embed(self, pooled: Tensor) -> Tensor:
        """Compute the input of the last layer.

        Args:
            pooled: (N, inputs).

        Returns:
            (N, inputs of the last layer).
        """
        embedded: Tensor = self.activation(self.hidden(self.projection(pooled)))
        return normalize(embedded, dim=-1) if self.normalize else embedded

"""The classification head on the pooled embedding."""

from __future__ import annotations

from torch import Tensor, nn

from visiongraft.backbone import Features

INITIAL_STD = 0.01


class ClassificationHead(nn.Module):
    """A linear layer, or an MLP with one hidden layer.

    The last layer is initialized near zero, so that training starts from nearly uniform
    probabilities whatever the scale of the embedding.

    Args:
        inputs: Dimension of the pooled embedding.
        outputs: Number of classes.
        hidden: Width of the hidden layer; 0 for none.
        dropout: Dropout probability before the last layer, in [0, 1).
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden) if hidden else nn.Identity()
        self.activation = nn.GELU() if hidden else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden or inputs, outputs)
        nn.init.normal_(self.output.weight, std=INITIAL_STD)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Features) -> Tensor:
        """Compute logits.

        Args:
            features: The pooled embedding, (N, inputs), is used.

        Returns:
            (N, outputs).
        """
        hidden = self.activation(self.hidden(features.pooled))
        logits: Tensor = self.output(self.dropout(hidden))
        return logits

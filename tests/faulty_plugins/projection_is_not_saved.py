"""The head draws a projection that is neither a parameter nor a buffer, so it is not saved."""

import torch
from sound_task import Color, Head

from visiongraft import hookimpl


class Projected(Head):
    def __init__(self, dim: int, labels: int) -> None:
        super().__init__(16, labels)
        self.projection = torch.randn(dim, 16)

    def forward(self, features):
        return self.linear(features.pooled @ self.projection)


class Faulty(Color):
    name = "projection-is-not-saved"

    def build_head(self, backbone):
        return Projected(backbone.info.embedding_dim, len(self.labels))


@hookimpl
def register_tasks():
    return [Faulty]

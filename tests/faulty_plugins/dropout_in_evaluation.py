"""The head drops features at random, in evaluation too."""

from sound_task import Color, Head
from torch.nn import functional as F

from visiongraft import hookimpl


class Dropping(Head):
    def forward(self, features):
        return self.linear(F.dropout(features.pooled, 0.5))


class Faulty(Color):
    name = "dropout-in-evaluation"

    def build_head(self, backbone):
        return Dropping(backbone.info.embedding_dim, len(self.labels))


@hookimpl
def register_tasks():
    return [Faulty]

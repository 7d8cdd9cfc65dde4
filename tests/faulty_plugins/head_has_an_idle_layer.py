"""The head has a layer that is never used."""

from sound_task import Color, Head
from torch import nn

from visiongraft import hookimpl


class Idle(Head):
    def __init__(self, dim: int, labels: int) -> None:
        super().__init__(dim, labels)
        self.hidden = nn.Linear(dim, dim)


class Faulty(Color):
    name = "head-has-an-idle-layer"

    def build_head(self, backbone):
        return Idle(backbone.info.embedding_dim, len(self.labels))


@hookimpl
def register_tasks():
    return [Faulty]

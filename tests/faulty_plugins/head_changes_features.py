"""The head applies an activation to the features in place."""

from sound_task import Color, Head
from torch.nn import functional as F

from visiongraft import hookimpl


class InPlace(Head):
    def forward(self, features):
        return self.linear(F.relu(features.pooled, inplace=True))


class Faulty(Color):
    name = "head-changes-features"

    def build_head(self, backbone):
        return InPlace(backbone.info.embedding_dim, len(self.labels))


@hookimpl
def register_tasks():
    return [Faulty]

"""The head remembers the size of its first batch."""

from sound_task import Color, Head

from visiongraft import hookimpl


class Remembering(Head):
    batch = 0

    def forward(self, features):
        self.batch = self.batch or len(features.pooled)
        return self.linear(features.pooled.reshape(self.batch, -1))


class Faulty(Color):
    name = "head-captures-batch-size"

    def build_head(self, backbone):
        return Remembering(backbone.info.embedding_dim, len(self.labels))


@hookimpl
def register_tasks():
    return [Faulty]

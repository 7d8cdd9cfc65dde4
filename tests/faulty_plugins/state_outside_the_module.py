"""The head keeps a running mean of the features in a plain attribute."""

from sound_task import Color, Head

from visiongraft import hookimpl


class Running(Head):
    mean = 0.0

    def forward(self, features):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * features.pooled.detach().mean(0)
        return self.linear(features.pooled - self.mean)


class Faulty(Color):
    name = "state-outside-the-module"

    def build_head(self, backbone):
        return Running(backbone.info.embedding_dim, len(self.labels))


@hookimpl
def register_tasks():
    return [Faulty]

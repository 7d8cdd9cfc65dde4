"""The head applies an activation to the features in place."""

from sound_task import Colour, Head

from visiongraft import hookimpl


class InPlace(Head):
    def forward(self, features):
        return self.linear(features.pooled.sub_(0.1))


class Faulty(Colour):
    name = "head-changes-features"

    def build_head(self, backbone):
        return InPlace(backbone.info.embedding_dim, len(self.labels))


@hookimpl
def register_tasks():
    return [Faulty]

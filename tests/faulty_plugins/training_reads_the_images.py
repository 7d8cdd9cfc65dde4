"""The loss looks at the images past the backbone: that is allowed, and nothing may be cached."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "training-reads-the-images"

    def training_step(self, network, batch):
        parts = super().training_step(network, batch)
        weight = 1 + batch.images.square().mean()
        return {name: part * weight for name, part in parts.items()}


@hookimpl
def register_tasks():
    return [Faulty]

"""The loss counts steps in a plain attribute, but only once the backbone trains too."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "state-in-the-second-phase"

    def training_step(self, network, batch):
        trains = any(p.requires_grad for p in network.backbone.parameters())
        network.loss.steps = getattr(network.loss, "steps", 0) + (network.training and trains)
        parts = super().training_step(network, batch)
        return {name: part * (1 + network.loss.steps / 100) for name, part in parts.items()}


@hookimpl
def register_tasks():
    return [Faulty]

"""The training step temporarily puts the backbone into training mode, frozen or not."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "batch-norm-thaws"

    def training_step(self, network, batch):
        modes = {module: module.training for module in network.backbone.modules()}
        network.backbone.train()
        parts = super().training_step(network, batch)
        for module, mode in modes.items():
            module.training = mode
        return parts


@hookimpl
def register_tasks():
    return [Faulty]

"""The task counts its steps in a variable of the module, from run to run."""

from sound_task import Color

from visiongraft import hookimpl

steps = 0


class Faulty(Color):
    name = "state-between-runs"

    def training_step(self, network, batch):
        global steps
        steps += network.training
        parts = super().training_step(network, batch)
        return {name: part * (1 + steps / 100) for name, part in parts.items()}


@hookimpl
def register_tasks():
    return [Faulty]

"""No optimizer trains the parameters of the loss."""

from sound_task import Color

from visiongraft import OptimizerSpec, hookimpl


class Faulty(Color):
    name = "optimizer-leaves-the-loss-out"

    def optimizers(self):
        return (OptimizerSpec("one", ("backbone",)), OptimizerSpec("two", ("head",)))


@hookimpl
def register_tasks():
    return [Faulty]

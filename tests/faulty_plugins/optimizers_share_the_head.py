"""Two optimizers train the head."""

from sound_task import Color

from visiongraft import OptimizerSpec, hookimpl


class Faulty(Color):
    name = "optimizers-share-the-head"

    def optimizers(self):
        return (OptimizerSpec("one", ("backbone", "head")), OptimizerSpec("two", ("head", "loss")))


@hookimpl
def register_tasks():
    return [Faulty]

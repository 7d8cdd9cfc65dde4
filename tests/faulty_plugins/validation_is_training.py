"""The task validates on the images that it trains on."""

from sound_task import Color

from visiongraft import hookimpl
from visiongraft.data.samples import Splits


class Faulty(Color):
    name = "validation-is-training"

    def read(self, data, *, validation=0.2, seed=0):
        splits = super().read(data, validation=validation, seed=seed)
        return Splits(splits.train, splits.train)


@hookimpl
def register_tasks():
    return [Faulty]

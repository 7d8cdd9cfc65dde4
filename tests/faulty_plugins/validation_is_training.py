"""The task validates on the pictures that it trains on."""

from sound_task import Colour

from visiongraft import hookimpl
from visiongraft.data.samples import Splits


class Faulty(Colour):
    name = "validation-is-training"

    def read(self, data, *, validation=0.2, seed=0):
        splits = super().read(data, validation=validation, seed=seed)
        return Splits(splits.train, splits.train)


@hookimpl
def register_tasks():
    return [Faulty]

"""The class names are in the order of a set, which differs between processes."""

from dataclasses import replace

from sound_task import Color

from visiongraft import hookimpl
from visiongraft.data.images import DatasetSamples


class Faulty(Color):
    name = "labels-in-any-order"

    def read(self, data, *, validation=0.2, seed=0):
        names = tuple(set(DatasetSamples.of(data).targets))
        return Color.read(replace(self, labels=names), data, validation=validation, seed=seed)


@hookimpl
def register_tasks():
    return [Faulty]

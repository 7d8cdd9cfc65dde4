"""The augmentation is a function within a function."""

from sound_task import Color, Flip

from visiongraft import hookimpl


class Faulty(Color):
    name = "worker-data-do-not-pickle"

    def train_transform(self, preprocess):
        flip = Flip(preprocess.size)
        return lambda image, target: flip(image, target)


@hookimpl
def register_tasks():
    return [Faulty]

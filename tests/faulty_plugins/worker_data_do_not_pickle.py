"""The augmentation is a nested function."""

from sound_task import Color, Flip

from visiongraft import hookimpl


class Faulty(Color):
    name = "worker-data-do-not-pickle"

    def train_transform(self, preprocess):
        transform = Flip(preprocess.size)
        return lambda image, target: transform(image, target)


@hookimpl
def register_tasks():
    return [Faulty]

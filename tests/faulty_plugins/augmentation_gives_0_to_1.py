"""The augmentation divides by 255, as other libraries expect."""

from sound_task import Color, Flip

from visiongraft import hookimpl


class Scaled(Flip):
    def __call__(self, image, target):
        image, target = super().__call__(image, target)
        return image / 255, target


class Faulty(Color):
    name = "augmentation-gives-0-to-1"

    def train_transform(self, preprocess):
        return Scaled(preprocess.size)


@hookimpl
def register_tasks():
    return [Faulty]

"""The augmentation draws from the operating system's randomness."""

from random import SystemRandom

from sound_task import Color, Flip

from visiongraft import hookimpl


class Unseeded(Flip):
    def __call__(self, image, target):
        image, target = super().__call__(image, target)
        return image // SystemRandom().randint(1, 3), target


class Faulty(Color):
    name = "augmentation-is-not-seeded"

    def train_transform(self, preprocess):
        return Unseeded(preprocess.size)


@hookimpl
def register_tasks():
    return [Faulty]

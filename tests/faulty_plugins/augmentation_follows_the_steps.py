"""The augmentation grows with the steps of training, which worker processes do not see."""

from sound_task import Color, Flip

from visiongraft import hookimpl


class Growing(Flip):
    steps = 0

    def __call__(self, image, target):
        image, target = super().__call__(image, target)
        return image // (1 + min(Growing.steps, 3)), target


class Faulty(Color):
    name = "augmentation-follows-the-steps"

    def build_loss(self):
        Growing.steps = 0
        return super().build_loss()

    def train_transform(self, preprocess):
        return Growing(preprocess.size)

    def training_step(self, network, batch):
        Growing.steps += network.training
        return super().training_step(network, batch)


@hookimpl
def register_tasks():
    return [Faulty]

"""The names of predictions are kept on the class, where only the training process finds them."""

from sound_task import Color, Colored

from visiongraft import hookimpl


class Faulty(Color):
    name = "labels-kept-on-the-class"
    known = ()

    def bind(self, train):
        Faulty.known = train.labels
        return super().bind(train)

    def predictions(self, decoded):
        pairs = zip(decoded["label"], decoded["probabilities"], strict=True)
        return [Colored(Faulty.known[i], float(p[i])) for i, p in pairs]


@hookimpl
def register_tasks():
    return [Faulty]

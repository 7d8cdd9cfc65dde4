"""Predictions contain numpy numbers, which JSON does not support."""

from sound_task import Color, Colored

from visiongraft import hookimpl


class Faulty(Color):
    name = "predictions-hold-arrays"

    def predictions(self, decoded):
        pairs = zip(decoded["label"], decoded["probabilities"], strict=True)
        return [Colored(self.labels[i], p[i]) for i, p in pairs]


@hookimpl
def register_tasks():
    return [Faulty]

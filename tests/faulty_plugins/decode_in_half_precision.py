"""Decode returns its results in the precision of training."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "decode-in-half-precision"

    def decode(self, outputs, sizes):
        probabilities = outputs.sigmoid()
        return {"probabilities": probabilities, "label": probabilities.argmax(1)}


@hookimpl
def register_tasks():
    return [Faulty]

"""Decode compares pictures with each other: the softmax is over the batch."""

from sound_task import Colour

from visiongraft import hookimpl


class Faulty(Colour):
    name = "decode-mixes-pictures"

    def decode(self, outputs, sizes):
        probabilities = outputs.float().softmax(0)
        return {"probabilities": probabilities, "label": outputs.argmax(1)}


@hookimpl
def register_tasks():
    return [Faulty]

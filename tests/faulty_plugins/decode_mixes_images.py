"""Decode compares images with each other: the softmax is over the batch."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "decode-mixes-images"

    def decode(self, outputs, sizes):
        probabilities = outputs.float().softmax(0)
        return {"probabilities": probabilities, "label": outputs.argmax(1)}


@hookimpl
def register_tasks():
    return [Faulty]

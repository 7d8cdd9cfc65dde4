"""Decode crashes on a batch without images."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "decode-needs-a-image"

    def decode(self, outputs, sizes):
        finite = outputs.clamp(max=float(abs(outputs.detach()).max()) * 2)
        return super().decode(finite, sizes)


@hookimpl
def register_tasks():
    return [Faulty]

"""Decode crashes on a batch without pictures."""

from sound_task import Colour

from visiongraft import hookimpl


class Faulty(Colour):
    name = "decode-needs-a-picture"

    def decode(self, outputs, sizes):
        finite = outputs.clamp(max=float(abs(outputs.detach()).max()) * 2)
        return super().decode(finite, sizes)


@hookimpl
def register_tasks():
    return [Faulty]

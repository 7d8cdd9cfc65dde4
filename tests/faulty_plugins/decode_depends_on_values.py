"""Decode asks Python what a tensor holds, so that a traced graph has only one of two ways."""

from sound_task import Colour

from visiongraft import hookimpl


class Faulty(Colour):
    name = "decode-depends-on-values"

    def decode(self, outputs, sizes):
        if len(outputs) and float(outputs.detach().max()) > 1e9:
            outputs = -outputs
        return super().decode(outputs, sizes)


@hookimpl
def register_tasks():
    return [Faulty]

"""Decode branches in Python on the value of a tensor, so that a traced graph has only one branch."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "decode-depends-on-values"

    def decode(self, outputs, sizes):
        if len(outputs) and float(outputs.detach().max()) > 1e9:
            outputs = -outputs
        return super().decode(outputs, sizes)


@hookimpl
def register_tasks():
    return [Faulty]

"""The exporter's suffix lacks the dot, so that no file has it."""

from sound_exporter import Traced

from visiongraft import hookimpl


class Faulty(Traced):
    name = "dotless"
    suffix = "dotless"


@hookimpl
def register_exporters():
    return [Faulty]

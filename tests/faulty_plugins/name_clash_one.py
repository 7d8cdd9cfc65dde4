"""One of two plugins that provide a task of the same name."""

from sound_task import Colour

from visiongraft import hookimpl


class Faulty(Colour):
    name = "name-clash"


@hookimpl
def register_tasks():
    return [Faulty]

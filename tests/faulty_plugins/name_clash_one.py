"""One of two plugins that provide a task of the same name."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "name-clash"


@hookimpl
def register_tasks():
    return [Faulty]

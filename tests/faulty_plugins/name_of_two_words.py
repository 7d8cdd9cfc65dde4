"""The task's name consists of two words, which is inconvenient on the command line."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "name of two words"


@hookimpl
def register_tasks():
    return [Faulty]

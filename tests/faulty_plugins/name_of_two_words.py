"""The task's name is two words, which no command line takes as one."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "name of two words"


@hookimpl
def register_tasks():
    return [Faulty]

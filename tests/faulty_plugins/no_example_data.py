"""The task brings nothing to be tried on."""

from sound_task import Color

from visiongraft import hookimpl
from visiongraft.task import Task


class Faulty(Color):
    name = "no-example-data"
    example_data = Task.example_data


@hookimpl
def register_tasks():
    return [Faulty]

"""The task has no example dataset for the checks."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "no-example-data"

    def examples(self):
        return None


@hookimpl
def register_tasks():
    return [Faulty]

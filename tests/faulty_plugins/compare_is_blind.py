"""The task finds that any two results agree."""

from sound_task import Color

from visiongraft import hookimpl
from visiongraft.task import Disagreement


class Faulty(Color):
    name = "compare-is-blind"

    def compare(self, reference, candidate):
        return Disagreement(0.0, 0)


@hookimpl
def register_tasks():
    return [Faulty]

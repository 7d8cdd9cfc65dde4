"""The task reports that any two results agree."""

from sound_task import Color

from visiongraft import hookimpl
from visiongraft.task import Disagreement, ExportSupport


class Faulty(Color):
    name = "compare-is-blind"

    def export_support(self):
        return ExportSupport(compare=lambda reference, candidate: Disagreement(0.0, 0))


@hookimpl
def register_tasks():
    return [Faulty]

"""The task compares the first image of each batch."""

from sound_task import Color

from visiongraft import hookimpl
from visiongraft.task import ExportSupport, compare_arrays


class Faulty(Color):
    name = "compare-sees-the-first-only"

    def export_support(self):
        return ExportSupport(compare=compare_first)


def compare_first(reference, candidate):
    first = ({n: v[:1] for n, v in arrays.items()} for arrays in (reference, candidate))
    return compare_arrays(*first)


@hookimpl
def register_tasks():
    return [Faulty]

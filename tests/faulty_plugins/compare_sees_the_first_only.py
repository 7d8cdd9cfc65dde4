"""The task compares the first image of each batch."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "compare-sees-the-first-only"

    def compare(self, reference, candidate):
        first = ({n: v[:1] for n, v in arrays.items()} for arrays in (reference, candidate))
        return super().compare(*first)


@hookimpl
def register_tasks():
    return [Faulty]

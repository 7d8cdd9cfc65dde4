"""What the task derives from its dataset is a set, which JSON does not support."""

from dataclasses import dataclass, replace

from sound_task import Color

from visiongraft import hookimpl


@dataclass(frozen=True)
class Faulty(Color):
    seen: frozenset = frozenset()

    name = "options-are-no-json"

    def bind(self, train):
        return replace(super().bind(train), seen=frozenset(train.labels))


@hookimpl
def register_tasks():
    return [Faulty]

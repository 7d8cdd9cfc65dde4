"""What the task learns from its data is a set, which its config cannot hold."""

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

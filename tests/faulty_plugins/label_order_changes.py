"""The task sorts its class names after the targets were numbered."""

from dataclasses import dataclass

from sound_task import Color

from visiongraft import hookimpl


@dataclass(frozen=True)
class Faulty(Color):
    name = "label-order-changes"

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(sorted(self.labels, reverse=True)))


@hookimpl
def register_tasks():
    return [Faulty]

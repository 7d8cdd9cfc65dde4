"""The hook expects a registry."""

from sound_task import Color

from visiongraft import hookimpl


@hookimpl
def register_tasks(registry):
    registry.add(Color)

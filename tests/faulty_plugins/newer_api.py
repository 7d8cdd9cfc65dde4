"""The plugin was written for a future API."""

from sound_task import Color

from visiongraft import hookimpl

visiongraft_api = "3.0"


class Faulty(Color):
    name = "newer-api"


@hookimpl
def register_tasks():
    return [Faulty]

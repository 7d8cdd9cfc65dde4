"""The plugin was written for an outdated API."""

from sound_task import Color

from visiongraft import hookimpl

visiongraft_api = "0.9"


class Faulty(Color):
    name = "old-api"


@hookimpl
def register_tasks():
    return [Faulty]

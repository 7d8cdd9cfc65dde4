"""The task says that its headline is to be maximised, in a word that nobody knows."""

from sound_task import Colour

from visiongraft import hookimpl


class Faulty(Colour):
    name = "better-is-misspelt"
    better = "max"


@hookimpl
def register_tasks():
    return [Faulty]

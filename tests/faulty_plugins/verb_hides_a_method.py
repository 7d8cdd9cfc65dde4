"""A verb has the name of a method that every model has."""

from sound_task import Colour

from visiongraft import hookimpl


class Faulty(Colour):
    name = "verb-hides-a-method"

    def verbs(self):
        return {"predict": print}


@hookimpl
def register_tasks():
    return [Faulty]

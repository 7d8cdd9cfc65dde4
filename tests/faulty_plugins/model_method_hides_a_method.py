"""A model method has the name of a method that every model has."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "model-method-hides-a-method"

    def model_methods(self):
        return {"predict": print}


@hookimpl
def register_tasks():
    return [Faulty]

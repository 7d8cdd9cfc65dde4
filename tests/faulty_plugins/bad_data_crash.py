"""Data of another form end in a traceback."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "bad-data-crash"

    def read(self, data, *, validation=0.2, seed=0):
        return super().read([(image, label) for image, label in data], validation=validation)


@hookimpl
def register_tasks():
    return [Faulty]

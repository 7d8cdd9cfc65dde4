"""The reader assumes that its file is undamaged."""

from pathlib import Path

from sound_reader import Lines

from visiongraft import hookimpl


class Faulty(Lines):
    name = "crashes"

    def read(self, data):
        return self.parts(Path(data))


@hookimpl
def register_readers():
    return [Faulty()]

"""The reader omits the last class name."""

from dataclasses import replace

from sound_reader import Lines

from visiongraft import hookimpl


class Faulty(Lines):
    name = "forgets"

    def parts(self, path):
        found = super().parts(path)
        return replace(found, names=found.names[:-1])


@hookimpl
def register_readers():
    return [Faulty()]

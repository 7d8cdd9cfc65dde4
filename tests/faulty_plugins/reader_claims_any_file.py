"""The reader claims anything that has a suffix."""

from pathlib import Path

from sound_reader import Lines

from visiongraft import hookimpl


class Faulty(Lines):
    name = "any-file"

    def claims(self, data):
        return isinstance(data, (str, Path)) and Path(data).suffix != ""


@hookimpl
def register_readers():
    return [Faulty()]

"""The reader takes the suffix of any data without checking that it is a path."""

from pathlib import Path

from sound_reader import Lines

from visiongraft import hookimpl


class Faulty(Lines):
    name = "all-paths"

    def claims(self, data):
        return Path(data).suffix == ".all-paths"


@hookimpl
def register_readers():
    return [Faulty()]

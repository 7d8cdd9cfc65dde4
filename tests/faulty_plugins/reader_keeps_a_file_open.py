"""The samples contain an open file, which cannot be sent to a worker process."""

from sound_reader import Lines

from visiongraft import hookimpl
from visiongraft.data.readers import DataSplits
from visiongraft.data.samples import FileSamples


class Open(FileSamples):
    pass


class Faulty(Lines):
    name = "open"

    def parts(self, path):
        found = super().parts(path)
        samples = Open(found.splits["train"].paths, found.splits["train"].targets)
        object.__setattr__(samples, "file", open(path))  # noqa: SIM115
        return DataSplits({"train": samples}, found.names)


@hookimpl
def register_readers():
    return [Faulty()]

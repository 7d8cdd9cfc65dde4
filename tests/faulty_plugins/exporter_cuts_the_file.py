"""The exporter changes the file after it was verified."""

from sound_exporter import Traced

from visiongraft import hookimpl


class Faulty(Traced):
    name = "cuts"
    suffix = ".cut"

    def export(self, model, path, samples, **options):
        certificate = super().export(model, path, samples, **options)
        path.write_bytes(path.read_bytes()[:-100])
        return certificate


@hookimpl
def register_exporters():
    return [Faulty]

"""The exporter ignores options that it does not know."""

from sound_exporter import Traced

from visiongraft import hookimpl


class Faulty(Traced):
    name = "any-option"
    suffix = ".any"

    def export(self, model, path, samples, **options):
        return super().export(model, path, samples)


@hookimpl
def register_exporters():
    return [Faulty]

"""The exporter writes a file and says that it agrees."""

from visiongraft import Certificate, Exporter, hookimpl
from visiongraft.errors import OptionError
from visiongraft.exporter import Check


class Trusting(Exporter):
    name = "trusting"
    suffix = ".trust"

    def export(self, model, path, samples, **options):
        if options:
            raise OptionError(f"no option {min(options)!r}")
        path.write_bytes(b"weights")
        check = Check("real", 1, 1, ((32, 32),), 0.0, 0, "picture 0")
        headline = model.task.headline
        return Certificate(path.name, self.name, (check,), 1e-4, headline, 0.1, 0.1, None, {})


@hookimpl
def register_exporters():
    return [Trusting]

"""The exporter writes a file and merely claims that it agrees."""

import numpy as np

from visiongraft import Certificate, Exporter, hookimpl
from visiongraft.certificate import Comparison
from visiongraft.errors import OptionError


class Trusting(Exporter):
    name = "trusting"
    suffix = ".trust"

    def export(self, model, path, samples, **options):
        if options:
            raise OptionError(f"no option {min(options)!r}")
        path.write_bytes(b"weights")
        comparison = Comparison("real", 1, 1, ((32, 32),), 0.0, 0, "image 0")
        found = model.predict([samples.load(i) for i in range(len(samples))])
        errors = [abs(one.brightness - samples.target(i)) for i, one in enumerate(found)]
        error, headline = float(np.mean(errors)), model.task.headline
        return Certificate(
            path.name, self.name, (comparison,), 1e-4, headline, error, error, None, {}
        )


@hookimpl
def register_exporters():
    return [Trusting]

"""An extra output subtracts the mean of the batch, so that images change each other's."""

from sound_task import Color

from visiongraft import hookimpl


def contrast(graph, features, outputs):
    return features.pooled - features.pooled.mean(dim=0, keepdim=True)


class Faulty(Color):
    name = "extra-output-mixes-images"

    def extra_outputs(self):
        return {"contrast": contrast}


@hookimpl
def register_tasks():
    return [Faulty]

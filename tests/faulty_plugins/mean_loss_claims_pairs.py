"""The loss is a mean over samples, but is declared as one over pairs."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "mean-loss-claims-pairs"
    loss_over_pairs = True


@hookimpl
def register_tasks():
    return [Faulty]

"""The metric divides by one picture too many."""

from sound_task import Accuracy, Colour

from visiongraft import hookimpl


class OneMore(Accuracy):
    def compute(self):
        return {"accuracy": self.right / (self.count + 1)}


class Faulty(Colour):
    name = "metric-never-perfect"

    def build_metrics(self):
        return OneMore()


@hookimpl
def register_tasks():
    return [Faulty]

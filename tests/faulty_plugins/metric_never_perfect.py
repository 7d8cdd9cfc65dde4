"""The metric divides by one image too many."""

from sound_task import Accuracy, Color

from visiongraft import hookimpl


class OneMore(Accuracy):
    def compute(self):
        return {"accuracy": self.right / (self.count + 1)}


class Faulty(Color):
    name = "metric-never-perfect"

    def build_metrics(self):
        return OneMore()


@hookimpl
def register_tasks():
    return [Faulty]

"""The metric is a percentage."""

from sound_task import Accuracy, Color

from visiongraft import hookimpl


class Percent(Accuracy):
    def compute(self):
        return {"accuracy": 100 * super().compute()["accuracy"]}


class Faulty(Color):
    name = "metric-above-one"

    def build_metrics(self):
        return Percent()


@hookimpl
def register_tasks():
    return [Faulty]

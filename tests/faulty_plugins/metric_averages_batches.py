"""The metric is a mean over batches, whatever their sizes."""

from sound_task import Color

from visiongraft import hookimpl


class BatchMean:
    def __init__(self) -> None:
        self.fractions = []

    def update(self, decoded, targets):
        self.fractions.append(float((decoded["label"] == targets.numpy()).mean()))

    def compute(self):
        return {"accuracy": sum(self.fractions) / len(self.fractions)}


class Faulty(Color):
    name = "metric-averages-batches"

    def build_metrics(self):
        return BatchMean()


@hookimpl
def register_tasks():
    return [Faulty]

"""The metric is a mean over batches, whatever their sizes."""

from sound_task import Colour

from visiongraft import hookimpl


class BatchMean:
    def __init__(self) -> None:
        self.shares = []

    def update(self, decoded, targets):
        self.shares.append(float((decoded["label"] == targets.numpy()).mean()))

    def compute(self):
        return {"accuracy": sum(self.shares) / len(self.shares)}


class Faulty(Colour):
    name = "metric-averages-batches"

    def build_metrics(self):
        return BatchMean()


@hookimpl
def register_tasks():
    return [Faulty]

"""What evaluation_step computes of an image depends on the other images of its batch."""

import torch
from sound_task import Accuracy, Color

from visiongraft import hookimpl


class Spread(Accuracy):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def update(self, decoded, targets):
        super().update(decoded, targets)
        self.total += float(decoded.get("spread", targets.numpy() * 0).sum())

    def compute(self):
        return {**super().compute(), "spread": self.total / self.count}


class Faulty(Color):
    name = "evaluation-mixes-images"

    def evaluation_step(self, network, batch):
        spread = batch.images.std(0, unbiased=False).mean()
        return {"spread": torch.full((len(batch.images),), float(spread))}

    def build_metrics(self):
        return Spread()


@hookimpl
def register_tasks():
    return [Faulty]

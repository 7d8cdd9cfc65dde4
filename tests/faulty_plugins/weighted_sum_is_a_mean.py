"""The loss returns a mean with the weight of a sum, which is divided a second time."""

import torch
from sound_task import Color, Loss
from torch.nn import functional as F

from visiongraft import hookimpl


class Divided(Loss):
    def forward(self, outputs, targets):
        mean = F.cross_entropy(outputs * self.scale, targets)
        return {"entropy": (mean, torch.tensor(float(len(targets))))}


class Faulty(Color):
    name = "weighted-sum-is-a-mean"

    def build_loss(self):
        return Divided()


@hookimpl
def register_tasks():
    return [Faulty]

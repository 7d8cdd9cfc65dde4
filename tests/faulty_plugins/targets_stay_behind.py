"""Targets are tensors in an object of the task's own, which is not moved to the GPU."""

from dataclasses import dataclass

from sound_task import Accuracy, Color, Loss
from torch import Tensor, tensor

from visiongraft import hookimpl


@dataclass
class Wrapped:
    labels: Tensor


class Unwrapping(Loss):
    def forward(self, outputs, targets):
        return super().forward(outputs, targets.labels)


class Measured(Accuracy):
    def update(self, decoded, targets):
        super().update(decoded, targets.labels)


class Faulty(Color):
    name = "targets-stay-behind"

    def collate(self, targets):
        return Wrapped(tensor(targets))

    def build_loss(self):
        return Unwrapping()

    def build_metrics(self):
        return Measured()

    def ideal(self, targets):
        return super().ideal(targets.labels)


@hookimpl
def register_tasks():
    return [Faulty]

"""The loss adds up its samples instead of averaging them."""

from sound_task import Color, Loss
from torch.nn import functional as F

from visiongraft import hookimpl


class Sum(Loss):
    def forward(self, outputs, targets):
        return {"entropy": F.cross_entropy(outputs * self.scale, targets, reduction="sum")}


class Faulty(Color):
    name = "loss-is-a-sum"

    def build_loss(self):
        return Sum()


@hookimpl
def register_tasks():
    return [Faulty]

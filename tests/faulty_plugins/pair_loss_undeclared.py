"""The loss compares samples with each other without declaring it."""

from pair_loss_is_a_sum import Pairs
from sound_task import Color

from visiongraft import hookimpl


class Mean(Pairs):
    def forward(self, outputs, targets):
        return {"pairs": self.pairs(outputs, targets).mean()}


class Faulty(Color):
    name = "pair-loss-undeclared"

    def build_loss(self):
        return Mean()


@hookimpl
def register_tasks():
    return [Faulty]

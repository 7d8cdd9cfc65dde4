"""A loss over pairs that takes only those of neighbors in the batch."""

import torch
from pair_loss_is_a_sum import Pairs
from sound_task import Color

from visiongraft import hookimpl


class Neighbors(Pairs):
    def forward(self, outputs, targets):
        return {"pairs": torch.triu(self.pairs(outputs, targets)[: len(targets) // 2 + 1]).mean()}


class Faulty(Color):
    name = "pair-loss-minds-the-order"
    loss_over_pairs = True

    def build_loss(self):
        return Neighbors()


@hookimpl
def register_tasks():
    return [Faulty]

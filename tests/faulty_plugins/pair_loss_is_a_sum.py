"""A loss over pairs that adds them up instead of averaging them."""

import torch
from sound_task import Color, Loss

from visiongraft import hookimpl


class Pairs(Loss):
    """Pulls outputs of one color together, and pushes the others apart."""

    def pairs(self, outputs, targets):
        distance = (outputs[:, None] - outputs[None]).float().pow(2).sum(2) * self.scale
        same = targets[:, None] == targets[None]
        return torch.where(same, distance, (1 - distance).relu())

    def forward(self, outputs, targets):
        return {"pairs": self.pairs(outputs, targets).sum()}


class Faulty(Color):
    name = "pair-loss-is-a-sum"
    loss_over_pairs = True

    def build_loss(self):
        return Pairs()


@hookimpl
def register_tasks():
    return [Faulty]

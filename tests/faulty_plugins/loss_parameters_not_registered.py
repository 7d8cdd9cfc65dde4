"""The loss keeps its parameters in a plain list, so that nothing trains or saves them."""

import torch
from sound_task import Color
from torch import nn
from torch.nn import functional as F

from visiongraft import hookimpl


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scales = [nn.Parameter(torch.ones(()))]

    def forward(self, outputs, targets):
        return {"entropy": F.cross_entropy(outputs.float() * self.scales[0], targets)}


class Faulty(Color):
    name = "loss-parameters-not-registered"

    def build_loss(self):
        return Listed()


@hookimpl
def register_tasks():
    return [Faulty]

"""The loss trains its center with an optimizer that it keeps, whose state no checkpoint contains."""

import torch
from sound_task import Color, Loss

from visiongraft import hookimpl


class Centered(Loss):
    def __init__(self):
        super().__init__()
        self.register_buffer("center", torch.zeros(()))
        self.moving = torch.zeros((), requires_grad=True)
        self.optimizer = torch.optim.Adam([self.moving], lr=0.1)

    def forward(self, outputs, targets):
        parts = super().forward(outputs + self.center, targets)
        if self.training and torch.is_grad_enabled():
            self.moving.grad = (outputs.detach().mean() - self.moving).detach()
            self.optimizer.step()
            self.center.copy_(self.moving.detach())
        return parts


class Faulty(Color):
    name = "optimizer-of-its-own"

    def build_loss(self):
        return Centered()


@hookimpl
def register_tasks():
    return [Faulty]

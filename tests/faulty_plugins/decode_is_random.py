"""Decode breaks ties at random."""

import torch
from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "decode-is-random"

    def decode(self, outputs, sizes):
        return super().decode(outputs + 0.01 * torch.rand_like(outputs), sizes)


@hookimpl
def register_tasks():
    return [Faulty]

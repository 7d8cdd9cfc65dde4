"""Decode makes the number of images a constant of the graph."""

import torch
from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "decode-fixes-the-batch"

    def decode(self, outputs, sizes):
        decoded = super().decode(outputs, sizes)
        weights = torch.tensor([1.0] * int(outputs.shape[0]))
        return {**decoded, "weight": weights}

    def ideal(self, targets):
        return {**super().ideal(targets), "weight": torch.ones(len(targets)).numpy()}


@hookimpl
def register_tasks():
    return [Faulty]

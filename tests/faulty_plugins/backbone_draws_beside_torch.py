"""A module that may be recomputed drops values by its own generator, which goes on meanwhile."""

import torch
from sound_backbone import Small
from sound_backbone import Source as Sound
from torch import nn

from visiongraft import hookimpl


class Drops(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(7)

    def forward(self, maps):
        if not self.training:
            return maps
        return maps * torch.rand(maps.shape, generator=self.generator).round()


class Faulty(Small):
    def __init__(self, *given):
        super().__init__(*given)
        self.parts.append(Drops())

    def checkpointed_modules(self):
        return [self.parts]


class Source(Sound):
    prefix = "beside"

    def make(self, *given):
        return Faulty(*given)


@hookimpl
def register_backbones():
    return [Source()]

"""The backbone draws its weights from a generator with its own seed."""

import torch
from sound_backbone import Small
from sound_backbone import Source as Sound

from visiongraft import hookimpl


class Faulty(Small):
    def __init__(self, *given):
        super().__init__(*given)
        generator = torch.Generator().manual_seed(7)
        for parameter in self.parameters():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)


class Source(Sound):
    prefix = "itself"

    def make(self, *given):
        return Faulty(*given)


@hookimpl
def register_backbones():
    return [Source()]

"""The backbone does something else while it is traced."""

import torch
from sound_backbone import Small
from sound_backbone import Source as Sound

from visiongraft import Features, hookimpl


class Faulty(Small):
    def forward(self, images):
        maps, pooled = super().forward(images)
        if torch.compiler.is_exporting():
            pooled = pooled * torch.linspace(1, 1.05, 8)
        return Features(maps, pooled)


class Source(Sound):
    prefix = "traced"

    def make(self, *given):
        return Faulty(*given)


@hookimpl
def register_backbones():
    return [Source()]

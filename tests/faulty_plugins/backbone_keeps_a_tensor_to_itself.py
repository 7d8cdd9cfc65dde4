"""The backbone weights its channels by a tensor that is not saved."""

import torch
from sound_backbone import Small
from sound_backbone import Source as Sound

from visiongraft import Features, hookimpl


class Faulty(Small):
    def __init__(self, *given):
        super().__init__(*given)
        self.weights = torch.rand(8)

    def forward(self, images):
        maps, pooled = super().forward(images)
        return Features(maps, pooled * self.weights)


class Source(Sound):
    prefix = "tensor"

    def make(self, *given):
        return Faulty(*given)


@hookimpl
def register_backbones():
    return [Source()]

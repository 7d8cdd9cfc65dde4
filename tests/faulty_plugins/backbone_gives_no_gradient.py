"""The backbone computes features without gradients."""

import torch
from sound_backbone import Small
from sound_backbone import Source as Sound

from visiongraft import hookimpl


class Faulty(Small):
    def forward(self, images):
        with torch.no_grad():
            return super().forward(images)


class Source(Sound):
    prefix = "nograd"

    def make(self, *given):
        return Faulty(*given)


@hookimpl
def register_backbones():
    return [Source()]

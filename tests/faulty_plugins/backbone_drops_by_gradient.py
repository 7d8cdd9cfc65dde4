"""The backbone drops features wherever gradients are computed, frozen or not."""

import torch
from sound_backbone import Small
from sound_backbone import Source as Sound
from torch.nn import functional as F

from visiongraft import Features, hookimpl


class Faulty(Small):
    def forward(self, images):
        maps, pooled = super().forward(images)
        return Features(maps, F.dropout(pooled, 0.2, torch.is_grad_enabled()))


class Source(Sound):
    prefix = "drops"

    def make(self, *given):
        return Faulty(*given)


@hookimpl
def register_backbones():
    return [Source()]

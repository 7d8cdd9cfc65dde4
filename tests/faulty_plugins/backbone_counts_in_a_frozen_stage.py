"""The stem keeps a mean of its outputs whenever the backbone trains, also if the stem does not."""

import torch
from sound_backbone import Source as Sound
from torch import nn

from visiongraft import Backbone, BackboneInfo, Features, PreprocessConfig, hookimpl


class Faulty(Backbone):
    def __init__(self, name, channels, size):
        stem, deep = nn.Conv2d(channels, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        stages = dict.fromkeys(("stem.weight", "stem.bias", "stem.mean"), "stem")
        stages |= {"deep.weight": "deep", "deep.bias": "deep"}
        mean = (0.5,) * channels
        config = PreprocessConfig(size, mean, mean)
        super().__init__(BackboneInfo(name, stages, (8, 8), (2, 4), 8, config, channels))
        self.stem, self.deep = stem, deep
        self.stem.register_buffer("mean", torch.zeros(8))

    def forward(self, images):
        fine = self.stem(images)
        if self.training:
            self.stem.mean.mul_(0.9).add_(0.1 * fine.detach().mean((0, 2, 3)))
        deep = self.deep(fine.relu()).relu()
        return Features((fine, deep), deep.mean((2, 3)))


class Source(Sound):
    prefix = "stem"

    def make(self, *given):
        return Faulty(*given)


@hookimpl
def register_backbones():
    return [Source()]

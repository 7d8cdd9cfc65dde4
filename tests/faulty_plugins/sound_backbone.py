"""A small sound backbone, which faulty plugins break."""

from __future__ import annotations

from torch import nn

from visiongraft import Backbone, BackboneInfo, BackboneSource, Features, PreprocessConfig, hookimpl


class Small(Backbone):
    def __init__(self, name, channels, size, norm=nn.BatchNorm2d, stride=2):
        parts = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), norm(8), nn.ReLU())
        mean = (0.5,) * channels
        stages = {f"parts.{tensor}": "stem" for tensor in parts.state_dict()}
        config = PreprocessConfig(size, mean, mean)
        super().__init__(BackboneInfo(name, stages, (8,), (stride,), 8, config, channels))
        self.parts = parts

    def forward(self, images):
        features = self.parts(images)
        return Features((features,), features.mean((2, 3)))


class Source(BackboneSource):
    prefix = "sound"

    def names(self):
        return ["small"]

    def build(self, name, *, pretrained, in_channels=3, size=None):
        return self.make(f"{self.prefix}/small", in_channels, size or (32, 32))

    def make(self, *given):
        return Small(*given)


@hookimpl
def register_backbones():
    return [Source()]

"""The backbone's normalization updates its statistics when it is frozen and in evaluation mode."""

from sound_backbone import Small
from sound_backbone import Source as Sound
from torch import nn

from visiongraft import hookimpl


class Counting(nn.BatchNorm2d):
    def forward(self, images):
        if not self.training and len(images):
            self.running_mean.mul_(0.9).add_(0.1 * images.detach().mean((0, 2, 3)))
        return super().forward(images)


class Source(Sound):
    prefix = "counting"

    def make(self, *given):
        return Small(*given, norm=Counting)


@hookimpl
def register_backbones():
    return [Source()]

"""The head only fits the feature map of one input size."""

from sound_task import Color
from torch import nn

from visiongraft import hookimpl


class Flat(nn.Module):
    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels * 8 * 8, labels)

    def forward(self, features):
        return self.linear(features.maps[-1].flatten(1))


class Faulty(Color):
    name = "head-fixes-the-size"

    def build_head(self, backbone):
        return Flat(backbone.info.channels[-1], len(self.labels))


@hookimpl
def register_tasks():
    return [Faulty]

"""The embedding does not depend on the image."""

from sound_backbone import Small
from sound_backbone import Source as Sound

from visiongraft import Features, hookimpl


class Faulty(Small):
    def forward(self, images):
        features = super().forward(images)
        return Features(features.maps, 0 * features.pooled)


class Source(Sound):
    prefix = "nothing"

    def make(self, *given):
        return Faulty(*given)


@hookimpl
def register_backbones():
    return [Source()]

"""The source lists a name twice."""

from sound_backbone import Source as Sound

from visiongraft import hookimpl


class Source(Sound):
    prefix = "twice"

    def names(self):
        return ["small", "small"]


@hookimpl
def register_backbones():
    return [Source()]

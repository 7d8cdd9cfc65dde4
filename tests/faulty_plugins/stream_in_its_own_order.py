"""The stream hands out its images in an order of its own, which begins anew when a run is resumed."""

from dataclasses import dataclass, field, replace

from sound_task import Color, draw_stream

from visiongraft import hookimpl
from visiongraft.data.samples import WrappedSamples


@dataclass(frozen=True)
class InTurn(WrappedSamples):
    turns: list = field(default_factory=list)

    def load(self, index, channels=3):
        self.turns.append(index)
        return self.base.load(len(self.turns) % len(self.base), channels)


class Faulty(Color):
    name = "stream-in-its-own-order"
    streams = ("unlabelled",)

    def examples(self):
        return replace(super().examples(), make_streams=draw_stream)

    def read_stream(self, name, data):
        return InTurn(super().read_stream(name, data))

    def training_step(self, network, batch):
        parts = super().training_step(network, batch)
        outputs = network.head(network.backbone(batch.streams["unlabelled"].images))
        return {**parts, "spread": 0.1 * outputs.float().square().mean()}


@hookimpl
def register_tasks():
    return [Faulty]

"""The loss rewards mistakes."""

from sound_task import Color, Loss

from visiongraft import hookimpl


class UpsideDown(Loss):
    def forward(self, outputs, targets):
        return {"entropy": super().forward(-outputs, targets)["entropy"]}


class Faulty(Color):
    name = "loss-is-upside-down"

    def build_loss(self):
        return UpsideDown()


@hookimpl
def register_tasks():
    return [Faulty]

"""The loss of a single sample is NaN."""

from sound_task import Color, Loss

from visiongraft import hookimpl


class Spread(Loss):
    def forward(self, outputs, targets):
        parts = super().forward(outputs, targets)
        spread = (outputs - outputs.mean(0)).square().sum() / (len(outputs) - 1)
        return {**parts, "spread": 0 * spread}


class Faulty(Color):
    name = "loss-needs-two-samples"

    def build_loss(self):
        return Spread()


@hookimpl
def register_tasks():
    return [Faulty]

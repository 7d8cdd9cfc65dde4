"""A hook keeps what a frozen layer returned; while the layer's stage is cached, it does not run."""

from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "training-taps-a-frozen-layer"

    def build_head(self, backbone):
        head = super().build_head(backbone)
        first = next(m for m in backbone.modules() if not list(m.children()))
        first.register_forward_hook(lambda module, args, output: setattr(head, "tapped", output))
        return head

    def training_step(self, network, batch):
        parts = super().training_step(network, batch)
        weight = 1 + network.head.tapped.square().mean()
        return {name: part * weight for name, part in parts.items()}


@hookimpl
def register_tasks():
    return [Faulty]

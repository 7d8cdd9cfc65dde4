"""An adapter of a third party, and a schedule that unfreezes it in stages before the last stage itself.

First the head, then the adapters of the deeper half of the stages, then all adapters together with the weights
of the last stage.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visiongraft import (
    Adapter,
    Applied,
    Backbone,
    LayerAdapter,
    Phase,
    Schedule,
    hookimpl,
    schedule,
)
from visiongraft.errors import OptionError


class LowRank(LayerAdapter):
    """Adds a low-rank update to a convolution or linear layer."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def effective(self, tensor: Tensor) -> Tensor:
        return tensor + (self.up @ self.down).view_as(tensor)


class Update(Adapter):
    """Low-rank updates of the weights of all convolution and linear layers."""

    name = "update"

    def __init__(self, *, rank: int = 2) -> None:
        if not isinstance(rank, int) or rank < 1:
            raise OptionError(f"rank={rank!r} of adapter 'update' is not an integer of at least 1")
        self.rank = rank

    def apply(self, backbone: Backbone) -> Applied:
        layers = {
            name: module
            for name, module in backbone.named_modules()
            if isinstance(module, (nn.Conv2d, nn.Linear))
        }
        for name, module in layers.items():
            self.attach(backbone, name, LowRank(module.weight, self.rank), "weight")
        return Applied()


@schedule
def adapters_by_stages(
    stages: Sequence[str], epochs: int, *, learning_rate: float = 1e-2
) -> Generator[Phase, list[dict[str, Any]], None]:
    """Train the head, then the adapters of the deeper stages, then all of them and the last stage."""
    yield Phase(1, ("head", "loss"), learning_rate)
    if epochs > 1:
        yield Phase(1, stages[len(stages) // 2], learning_rate)
    if epochs > 2:
        chosen = ("update", stages[-1], "head", "loss")
        yield Phase(epochs - 2, chosen, learning_rate, rates={stages[-1]: 0.1}, shape="linear")


@hookimpl
def register_adapters() -> list[type[Adapter]]:
    return [Update]


@hookimpl
def register_schedules() -> list[Schedule]:
    return [adapters_by_stages]

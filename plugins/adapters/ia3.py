"""(IA)^3: factors on the inputs or outputs of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from visiongraft.adapters import (
    Adapter,
    Applied,
    LayerAdapter,
    after_first_stage,
    as_targets,
    select,
    weighted_layers,
)
from visiongraft.backbone import Backbone
from visiongraft.plugins.adapters.needs import WEIGHTED, needed

READ = "layers that are not simply called, whose weights are read or changed elsewhere"


class ScaledOutputs(LayerAdapter):
    """Multiplies each output channel by a factor.

    Args:
        layer: The layer.

    Attributes:
        factor: (O,), at first ones.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.factor = nn.Parameter(_weight(layer).new_ones(_weight(layer).shape[0]))

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        return plain(*args) * _along_channels(self.factor, layer)

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        weight, bias = _weight(layer), layer._parameters["bias"]
        weight.mul_(self.factor.reshape(-1, *[1] * (weight.ndim - 1)))
        if bias is not None:
            bias.mul_(self.factor)


class ScaledInputs(LayerAdapter):
    """Multiplies each input channel by a factor.

    Args:
        layer: The layer.

    Attributes:
        factor: (I,) with the channels of all groups, at first ones.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        weight = _weight(layer)
        self.groups = int(getattr(layer, "groups", 1))
        self.factor = nn.Parameter(weight.new_ones(weight.shape[1] * self.groups))

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        return plain(args[0] * _along_channels(self.factor, layer))

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        weight = _weight(layer)
        by_group = weight.view(self.groups, -1, *weight.shape[1:])
        by_group.mul_(self.factor.reshape(self.groups, 1, -1, *[1] * (weight.ndim - 2)))


class IA3(Adapter):
    """Factors on activations, (IA)^3 (Liu et al., 2022): l * (W x + b), or W (l * x) + b.

    The paper multiplies the keys and values of attention, and the input of the second layer of each
    MLP; in a timm ViT, where queries, keys and values come from one layer, that is
    ``ia3(targets=["qkv"], inputs=["fc2"])``. By default the outputs of all linear and convolution
    layers after the first stage are multiplied.

    Args:
        targets: Names or patterns of layers whose outputs are multiplied.
        inputs: Names or patterns of layers whose inputs are multiplied instead.
    """

    name: ClassVar[str] = "ia3"

    def __init__(
        self, *, targets: str | Sequence[str] = (), inputs: str | Sequence[str] = ()
    ) -> None:
        self.targets = as_targets("targets", targets)
        self.inputs = as_targets("inputs", inputs)

    def apply(self, backbone: Backbone) -> Applied:
        owner = f"adapter {self.name!r}"
        found = weighted_layers(backbone)
        usable = {n: each.module for n, each in found.items() if each.parameter is None}
        layers = needed(self.name, WEIGHTED, usable, backbone)
        inputs = select(owner, layers, self.inputs, "inputs")
        if self.targets:
            outputs, unusable = select(owner, layers, self.targets), 0
        elif self.inputs:
            outputs, unusable = {}, 0
        else:
            outputs, unusable = after_first_stage(backbone, layers), len(found) - len(layers)
        for name, layer in inputs.items():
            self.attach(backbone, name, ScaledInputs(layer))
        for name, layer in outputs.items():
            if name not in inputs:
                self.attach(backbone, name, ScaledOutputs(layer))
        return Applied(left_out={READ: unusable} if unusable else {})


def _weight(layer: nn.Module) -> Tensor:
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight


def _along_channels(factor: Tensor, layer: nn.Module) -> Tensor:
    return factor[:, None, None] if isinstance(layer, nn.Conv2d) else factor

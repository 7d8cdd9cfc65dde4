"""Bottleneck adapters: small two-layer networks beside or after parts of a backbone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from visiongraft.adapters import (
    Adapter,
    Applied,
    Call,
    LayerAdapter,
    as_targets,
    calls,
    own_modules,
    select,
)
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.options import check_choice, check_integer, is_number

PLACES = ("parallel", "sequential")
MLP = "mlp"  # name of the MLPs in transformer blocks


class BottleneckLayer(LayerAdapter):
    """Adds ``scale * up(relu(down(x)))`` to the output of a module.

    Args:
        channels: Channels C of the module's input and output.
        width: Channels of the bottleneck.
        scale: Factor on what is added.
        place: ``"parallel"`` if x is the module's input, ``"sequential"`` if it is its output.
        spatial: Whether the channels are the dimension 1, (N, C, H, W); otherwise the last.

    Attributes:
        down: To ``width`` channels.
        up: Back to C, zero at first, so that the module computes the same as without.
    """

    mergeable: ClassVar[bool] = False

    def __init__(self, channels: int, width: int, scale: float, place: str, spatial: bool) -> None:
        super().__init__()
        self.scale, self.place = scale, place
        kind: Callable[..., nn.Module] = _pointwise if spatial else nn.Linear
        self.down, self.up = kind(channels, width), kind(width, channels)
        self.act = nn.ReLU()
        for name, parameter in self.named_parameters():
            if name == "down.weight":
                nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
            else:
                nn.init.zeros_(parameter)

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        output: Tensor = plain(*args)
        inputs = args[0] if self.place == "parallel" else output
        return output + self.scale * self.up(self.act(self.down(inputs)))


class Bottleneck(Adapter):
    """Bottlenecks beside or after the MLPs: y + scale * up(relu(down(x))).

    ``place="parallel"`` reads the input of the module (AdaptFormer, Chen et al., 2022), or its output if
    that has another shape; ``place="sequential"`` always reads its output (Houlsby et al., 2019; its
    scale is 1). They are not linear,
    so that they are not merged but saved and exported with the model. Without modules named ``mlp``, as
    in most CNNs, blocks of several convolutions get them, made of 1x1 convolutions.

    Args:
        width: Channels of the bottleneck.
        scale: Factor on what is added.
        place: ``"parallel"`` or ``"sequential"``.
        targets: Names or patterns of modules; empty for the default.
    """

    name: ClassVar[str] = "bottleneck"

    def __init__(
        self,
        *,
        width: int = 64,
        scale: float = 0.1,
        place: str = "parallel",
        targets: str | Sequence[str] = (),
    ) -> None:
        check_integer("width", width, 1)
        check_choice("place", place, PLACES)
        if not (is_number(scale) and scale != 0):
            raise OptionError(f"scale={scale!r} is not a number other than 0")
        self.width, self.scale, self.place = width, scale, place
        self.targets = as_targets("targets", targets)

    def apply(self, backbone: Backbone) -> Applied:
        modules, called = own_modules(backbone), calls(backbone)
        usable = {n: m for n, m in modules.items() if _returns_one_tensor(m, called.get(n))}
        if self.targets:
            chosen = select(f"adapter {self.name!r}", usable, self.targets)
        else:
            mlps = {n: m for n, m in usable.items() if n.rpartition(".")[2] == MLP}
            chosen = mlps or _blocks(usable)
        if not chosen:
            raise OptionError(
                f"adapter {self.name!r} finds neither MLPs nor blocks of convolutions in backbone "
                f"{backbone.info.name!r}; name modules with targets"
            )
        device = next(backbone.parameters()).device
        for name, module in chosen.items():
            spatial, shape = _is_spatial(module), called[name].outputs
            assert shape is not None
            channels = shape[1 if spatial else -1]
            equal = called[name].inputs == shape
            place = self.place if equal else "sequential"
            part = BottleneckLayer(channels, self.width, self.scale, place, spatial)
            self.attach(backbone, name, part.to(device))
        return Applied()


def _returns_one_tensor(module: nn.Module, call: Call | None) -> bool:
    """Check whether a module that consists of others returns one tensor."""
    return call is not None and call.outputs is not None and any(True for _ in module.children())


def _blocks(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return the numbered modules with several convolutions that contain no other one."""
    several = {
        name: module
        for name, module in modules.items()
        if name.rpartition(".")[2].isdigit()
        and sum(isinstance(m, nn.Conv2d) for m in module.modules()) > 1
    }
    return {
        name: module
        for name, module in several.items()
        if not any(other.startswith(f"{name}.") for other in several)
    }


def _is_spatial(module: nn.Module) -> bool:
    """Check whether the last layer of a module with channels is a convolution."""
    kinds = [type(m) for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    return bool(kinds) and issubclass(kinds[-1], nn.Conv2d)


def _pointwise(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1)

"""Which layers of a backbone an adapter can be put into, and which of them a user means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from visiongraft.adaptation.layers import Adapted
from visiongraft.adaptation.timm_layers import timm_layer
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError, near_matches
from visiongraft.seeds import preserved

Found = TypeVar("Found")

LISTED = 12  # groups of names that a message lists


@dataclass(frozen=True)
class Call:
    """The first call of a module in a forward pass.

    Attributes:
        inputs: Shape of its first argument, if that is a tensor.
        outputs: Shape of what it returned, if that is a tensor.
    """

    inputs: tuple[int, ...] | None = None
    outputs: tuple[int, ...] | None = None


@dataclass(frozen=True)
class WeightedLayer:
    """A layer with a weight that an adapter may change.

    Attributes:
        module: The layer.
        parameter: ``None`` if the adapter can compute the layer's output; otherwise the name of the
            parameter whose value it has to compute, since the layer does more than multiply by its
            weight, or since its weight is read and the layer itself never called.
    """

    module: nn.Module
    parameter: str | None

    @property
    def weight(self) -> nn.Parameter:
        """The layer's own weight."""
        found = self.module._parameters[self.parameter or "weight"]
        assert found is not None
        return found

    @property
    def groups(self) -> int:
        """Into how many groups its channels are divided."""
        return int(getattr(self.module, "groups", 1))


def weighted_layers(backbone: Backbone) -> dict[str, WeightedLayer]:
    """Find the linear and convolution layers of a backbone, and its multi-head attentions.

    Args:
        backbone: The backbone; left as it was.

    Returns:
        Layers by name.
    """
    called = calls(backbone)
    # What computes its output from weight and bias alone; subclasses may change their weights.
    plain = (nn.Linear, nn.Conv2d, *timm_layer("conv2d_same.Conv2dSame"))
    found = {}
    for name, module in own_modules(backbone).items():
        if isinstance(module, nn.MultiheadAttention):
            parameter: str | None = "in_proj_weight"
        elif isinstance(module, (nn.Linear, _ConvNd)) and not isinstance(module, _ConvTransposeNd):
            # What has an adapter already is listed, so that the message can name the adapter.
            kind = module.plain_class if isinstance(module, Adapted) else type(module)
            parameter = None if kind in plain and name in called else "weight"
        else:
            continue
        if module._parameters.get(parameter or "weight") is not None:
            found[name] = WeightedLayer(module, parameter)
    return found


def own_modules(backbone: Backbone) -> dict[str, nn.Module]:
    """Return the modules of a backbone by name, without itself and without those of adapters."""
    found: dict[str, nn.Module] = {}
    inside: tuple[str, ...] = ()
    for name, module in backbone.named_modules():
        if isinstance(module, Adapted):
            inside += (f"{name}.{module.adapter_name}",)
        if name and not any(name == part or name.startswith(f"{part}.") for part in inside):
            found[name] = module
    return found


def calls(backbone: Backbone) -> dict[str, Call]:
    """Run a backbone on one blank image, and return the first call of each module that is called.

    Args:
        backbone: The backbone; left as it was.

    Returns:
        Calls by name of the module.
    """
    found: dict[str, Call] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            shapes = [
                tuple(value.shape) if isinstance(value, Tensor) else None
                for value in (args[0] if args else None, output)
            ]
            found.setdefault(name, Call(*shapes))

        return hook

    training = {module: module.training for module in backbone.modules()}
    device = next(backbone.parameters()).device
    images = torch.zeros(1, backbone.info.in_channels, *backbone.info.preprocess.size)
    with ExitStack() as hooks, torch.no_grad(), preserved():
        for name, module in backbone.named_modules():
            hooks.callback(module.register_forward_hook(note(name)).remove)
        try:
            backbone.eval()
            backbone(images.to(device))
        finally:
            for module, mode in training.items():
                module.training = mode
    return found


def select(
    owner: str, layers: Mapping[str, Found], targets: Sequence[str], option: str = "targets"
) -> dict[str, Found]:
    """Select the layers that a user names.

    Args:
        owner: What selects, for the message, such as ``"adapter 'lora'"``.
        layers: Layers by name.
        targets: Names or patterns such as ``"blocks.*.attn.qkv"``; one also fits the end of a name
            after a dot, so that ``"qkv"`` does.
        option: Name of the option, for the message.

    Returns:
        The layers that one of the targets fits, in their order.

    Raises:
        OptionError: A target fits none.

    Examples:
        >>> select("adapter 'x'", {"blocks.0.qkv": 1, "blocks.0.fc1": 2}, ["qkv"])
        {'blocks.0.qkv': 1}
    """
    for target in targets:
        if not any(_fits(name, target) for name in layers):
            ends = {name.rpartition(".")[2] for name in layers}
            raise OptionError(
                f"{owner}: {option}={target!r} matches no layer"
                f"{near_matches(target, [*ends, *layers])}; it can be put into {listed(layers)}"
            )
    return {n: layer for n, layer in layers.items() if any(_fits(n, t) for t in targets)}


def listed(names: Iterable[str]) -> str:
    """List names in one line, alike ones that differ in numbers together.

    Examples:
        >>> listed(["blocks.0.qkv", "blocks.1.qkv", "head"])
        'blocks.*.qkv, head'
    """
    groups = list(dict.fromkeys(re.sub(r"\b\d+\b", "*", name) for name in names))
    more = [f"and {len(groups) - LISTED} more"] if len(groups) > LISTED else []
    return ", ".join([*groups[:LISTED], *more]) or "nothing"


def after_first_stage(backbone: Backbone, layers: Mapping[str, Found]) -> dict[str, Found]:
    """Leave out the layers of the first stage, which read the image; all remain if there is only one."""
    first = backbone.stages[0]
    kept = {name: layer for name, layer in layers.items() if stage_at(backbone, name) != first}
    return kept or dict(layers)


def stage_at(backbone: Backbone, name: str) -> str:
    """Return the stage of a module: that of its last tensor, or of what is around it.

    Args:
        backbone: The backbone.
        name: Name of the module.
    """
    stage_of = backbone.info.stage_of
    while name:
        inside = [stage for tensor, stage in stage_of.items() if tensor.startswith(f"{name}.")]
        if inside:
            return max(inside, key=backbone.stages.index)
        name = name.rpartition(".")[0]
    return backbone.stages[-1]


def _fits(name: str, target: str) -> bool:
    return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")

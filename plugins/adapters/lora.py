"""LoRA and DoRA: updates of low rank for linear and convolution layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiongraft.adapters import (
    Adapter,
    Applied,
    LayerAdapter,
    WeightedLayer,
    after_first_stage,
    as_targets,
    select,
    weighted_layers,
)
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.options import check_flag, check_integer, is_number
from visiongraft.plugins.adapters.needs import WEIGHTED, needed

DEPTHWISE = "depthwise convolutions, whose filters have no low rank to use"
EXACT = (nn.Linear, nn.Conv2d)  # whose two factors can be applied one after the other


class LowRankUpdate(LayerAdapter):
    """An update ``scale * B A`` of a weight (O, I, *kernel).

    A convolution in G groups has an update in G groups.

    Args:
        weight: The weight; O and I are its first dimensions, I per group.
        groups: Number of groups G.
        rank: Rank R of the update, per group.
        scale: Factor on the update.

    Attributes:
        a: (G * R, I, *kernel), drawn from a uniform distribution as ``nn.Linear`` draws its weight.
        b: (O, R, 1, ...), zero at first, so that the layer computes the same as without.
    """

    def __init__(self, weight: Tensor, groups: int, rank: int, scale: float) -> None:
        super().__init__()
        self.groups, self.rank, self.scale = groups, rank, scale
        ones = [1] * (weight.ndim - 2)
        self.a = nn.Parameter(weight.new_empty(groups * rank, *weight.shape[1:]))
        self.b = nn.Parameter(weight.new_zeros(weight.shape[0], rank, *ones))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def update(self, like: Tensor) -> Tensor:
        """Compute the update of the whole weight, of the shape and type of ``like``."""
        a = self.a.to(like.dtype).reshape(self.groups, self.rank, -1)
        b = self.b.to(like.dtype).reshape(self.groups, -1, self.rank)
        return self.scale * (b @ a).reshape(like.shape)

    def effective(self, tensor: Tensor) -> Tensor:
        return tensor + self.update(tensor)

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        output: Tensor = plain(*args)
        return output + self.low_rank(layer, args[0])

    def low_rank(self, layer: nn.Module, inputs: Tensor) -> Tensor:
        """Apply the two factors one after the other, which needs no gradient of the whole weight."""
        if isinstance(layer, nn.Conv2d):
            hidden = layer._conv_forward(inputs, self.a, None)  # padded and dilated as the layer is
            return self.scale * functional.conv2d(hidden, self.b, groups=self.groups)
        return self.scale * functional.linear(functional.linear(inputs, self.a), self.b)


class MagnitudeUpdate(LowRankUpdate):
    """A weight ``m * V / |V|`` with ``V = W + scale * B A``, norms being taken per output.

    The norm gets no gradient, as in the paper.

    Args:
        weight: See ``LowRankUpdate``.
        groups: See ``LowRankUpdate``.
        rank: See ``LowRankUpdate``.
        scale: See ``LowRankUpdate``.

    Attributes:
        m: (O,), at first the norms of the weight.
    """

    def __init__(self, weight: Tensor, groups: int, rank: int, scale: float) -> None:
        super().__init__(weight, groups, rank, scale)
        self.m = nn.Parameter(_norms(weight.detach()))

    def effective(self, tensor: Tensor) -> Tensor:
        direction = tensor + self.update(tensor)
        factor = self._factor(direction)
        return direction * factor.reshape(-1, *[1] * (tensor.ndim - 1))

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        (inputs,) = args
        weight = layer._parameters["weight"]
        bias: Tensor | None = layer._parameters["bias"]
        assert weight is not None
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            direction = weight + self.update(weight)
        factor = self._factor(direction)
        if isinstance(layer, nn.Conv2d):
            output = layer._conv_forward(inputs, weight, None) + self.low_rank(layer, inputs)
            factor = factor[:, None, None]
            bias = None if bias is None else bias[:, None, None]
        else:
            output = functional.linear(inputs, weight) + self.low_rank(layer, inputs)
        output = output * factor.to(output.dtype)
        return output if bias is None else output + bias.to(output.dtype)

    def _factor(self, direction: Tensor) -> Tensor:
        norms = _norms(direction.detach())
        return self.m.to(norms.dtype) / norms.clamp_min(torch.finfo(norms.dtype).tiny)


class LoRA(Adapter):
    """Updates of low rank (Hu et al., 2021): W + alpha / rank * B A, beside frozen weights W.

    By default all linear and convolution layers after the first stage get one, but for depthwise
    convolutions. A convolution's update is a convolution to ``rank`` channels like its own and a 1x1
    convolution; both are in groups if it is.

    Args:
        rank: Rank of the updates.
        alpha: The update is multiplied by ``alpha / rank``; ``None`` for ``rank``, a factor of 1.
        targets: Names or patterns of layers, such as ``"attn.qkv"``; empty for the default.
        rslora: Multiply by ``alpha / sqrt(rank)`` (Kalajdzievski, 2023).
    """

    name: ClassVar[str] = "lora"
    update: ClassVar[type[LowRankUpdate]] = LowRankUpdate

    def __init__(
        self,
        *,
        rank: int = 8,
        alpha: float | None = None,
        targets: str | Sequence[str] = (),
        rslora: bool = False,
    ) -> None:
        check_integer("rank", rank, 1)
        check_flag("rslora", rslora)
        if alpha is not None and not (is_number(alpha) and alpha > 0):
            raise OptionError(f"alpha={alpha!r} is not a positive number")
        self.rank, self.targets = rank, as_targets("targets", targets)
        factor = rank if alpha is None else alpha
        self.scale = factor / (math.sqrt(rank) if rslora else rank)

    def apply(self, backbone: Backbone) -> Applied:
        owner = f"adapter {self.name!r}"
        layers = needed(self.name, WEIGHTED, weighted_layers(backbone), backbone)
        if self.targets:
            layers = select(owner, layers, self.targets)
        else:
            layers = after_first_stage(backbone, layers)
        chosen = {name: layer for name, layer in layers.items() if not _is_depthwise(layer)}
        if not chosen:
            raise OptionError(f"{owner} finds nothing but {len(layers)} {DEPTHWISE}")
        most = max(map(_full_rank, chosen.values()))
        if self.rank > most:
            raise OptionError(
                f"{owner}: rank={self.rank} is more than the weight of any of its layers has; use at "
                f"most {most}"
            )
        for name, layer in chosen.items():
            parameter = layer.parameter
            if parameter is None and type(layer.module) not in EXACT:
                parameter = "weight"
            part = self.update(layer.weight, layer.groups, self.rank, self.scale)
            self.attach(backbone, name, part, parameter)
        left_out = len(layers) - len(chosen)
        return Applied(left_out={DEPTHWISE: left_out} if left_out else {})


class DoRA(LoRA):
    """LoRA with a trained magnitude (Liu et al., 2024): m * V / |V| with V = W + alpha / rank * B A.

    The magnitude m has one value per output and starts as the norm of the weight's row or filter.

    Args:
        rank: Rank of the updates.
        alpha: The update is multiplied by ``alpha / rank``; ``None`` for ``rank``, a factor of 1.
        targets: Names or patterns of layers, such as ``"attn.qkv"``; empty for the default of LoRA.
        rslora: Multiply by ``alpha / sqrt(rank)``.
    """

    name: ClassVar[str] = "dora"
    update: ClassVar[type[LowRankUpdate]] = MagnitudeUpdate


def _norms(weight: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return norms


def _full_rank(layer: WeightedLayer) -> int:
    """Return the highest rank that the weight of a layer can have, per group."""
    return min(len(layer.weight) // layer.groups, layer.weight[0].numel())


def _is_depthwise(layer: WeightedLayer) -> bool:
    return layer.groups > 1 and layer.weight.shape[1] == 1

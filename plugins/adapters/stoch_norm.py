"""Stochastic normalization: batch norms that sometimes use their running statistics in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visiongraft.adapters import Adapter, Applied, LayerAdapter, own_modules
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.options import is_number
from visiongraft.plugins.adapters.needs import needed

NORMS = "batch norms with running statistics"


class StochasticNormalization(LayerAdapter):
    """Chooses per channel and step between the statistics of the batch and the running ones.

    Args:
        probability: Probability of the batch's statistics.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        if not layer.training:
            return plain(*args)
        (inputs,) = args
        layer.training = False
        try:
            running: Tensor = plain(inputs)  # before this batch updates the statistics
        finally:
            layer.training = True
        batch: Tensor = plain(inputs)
        channels = [1, -1, *[1] * (inputs.ndim - 2)]
        chosen = torch.rand(inputs.shape[1], device=inputs.device) < self.probability
        return torch.where(chosen.reshape(channels), batch, running)

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        """Leave plain batch norm, which this is in evaluation."""


class StochNorm(Adapter):
    """Stochastic normalization of batch norms (Kou et al., 2020).

    In training the output of each channel is s * BN_batch(x) + (1 - s) * BN_running(x) with
    s ~ Bernoulli(p); scale and shift are shared, and the running statistics are updated by every batch.
    In evaluation it is plain batch norm. All parameters of the backbone train as without adapters, and
    the batch norms of the stages that train update their statistics whatever the phase's
    ``batch_norm``.

    Args:
        p: Probability of the batch's statistics.
    """

    name: ClassVar[str] = "stoch_norm"
    freezes_base: ClassVar[bool] = False

    def __init__(self, *, p: float = 0.5) -> None:
        if not (is_number(p) and 0 <= p <= 1):
            raise OptionError(f"p={p!r} is not a probability in [0, 1]")
        self.p = p

    def apply(self, backbone: Backbone) -> Applied:
        found = [
            name
            for name, module in own_modules(backbone).items()
            if isinstance(module, _BatchNorm) and module.running_mean is not None
        ]
        for name in needed(self.name, NORMS, found, backbone):
            self.attach(backbone, name, StochasticNormalization(self.p))
        return Applied()

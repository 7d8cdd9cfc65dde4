"""Averages of the weights over a run, EMA and SWA, that leave frozen tensors alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from visiongraft.config import FitConfig


class Average:
    """Keeps averaged copies of a network's floating-point tensors.

    Args:
        network: What to average; the copies start at its values.

    Attributes:
        tensors: The averages, by names of the network's state.
        updates: How many updates were made.
    """

    def __init__(self, network: nn.Module) -> None:
        self.updates = 0
        self.tensors = {n: t.detach().clone() for n, t in _floating(network).items()}

    def after_step(self, network: nn.Module, frozen: Collection[str]) -> None:
        """Take note of the weights after an optimizer step; names in ``frozen`` are not touched."""

    def after_epoch(self, network: nn.Module, frozen: Collection[str], epoch: int) -> None:
        """Take note of the weights after an epoch, counted from 0 over the whole run."""

    def adopt(self, network: nn.Module, names: Collection[str]) -> None:
        """Copy tensors without averaging; frozen tensors have no average of their own.

        The rest goes on training on these values, not on their average, which lags behind.

        Args:
            network: The network.
            names: Names of tensors that are frozen from now on.
        """
        for name, tensor in _floating(network).items():
            if name in names:
                self.tensors[name].copy_(tensor)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Load the averaged values into the network for the length of a block."""
        present = _floating(network)
        kept = {n: t.clone() for n, t in present.items()}
        with torch.no_grad():
            for name, tensor in present.items():
                tensor.copy_(self.tensors[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in present.items():
                    tensor.copy_(kept[name])

    def _move(self, network: nn.Module, frozen: Collection[str], weight: float) -> None:
        """Move the averages towards the network's values, all the way with a weight of 1."""
        present = _floating(network)
        names = [n for n in present if n not in frozen]
        torch._foreach_lerp_([self.tensors[n] for n in names], [present[n] for n in names], weight)


class EMA(Average):
    """An exponential moving average of the weights after each step.

    The decay warms up as (1 + updates) / (10 + updates), so that the first steps count.

    Args:
        network: What to average.
        decay: Weight of the old average in an update, in (0, 1).

    Examples:
        >>> layer = nn.Linear(1, 1)
        >>> average = EMA(layer, 0.9)
        >>> average.after_step(layer, frozen=set())
        >>> average.updates
        1
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network)
        self.decay = decay

    def after_step(self, network: nn.Module, frozen: Collection[str]) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        self._move(network, frozen, 1 - decay)


class SWA(Average):
    """The mean of the weights at the ends of the last epochs; before them, it follows the network.

    Stochastic weight averaging: Izmailov et al., 2018, "Averaging weights leads to wider optima and
    better generalization".

    Args:
        network: What to average.
        first: The first epoch whose end counts, from 0.

    Examples:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = SWA(layer, first=1)
        >>> for epoch, value in enumerate([5.0, 1.0, 2.0]):
        ...     _ = nn.init.constant_(layer.weight, value)
        ...     average.after_epoch(layer, frozen=set(), epoch=epoch)
        >>> average.tensors["weight"].item()
        1.5
    """

    def __init__(self, network: nn.Module, first: int) -> None:
        super().__init__(network)
        self.first = first

    def after_epoch(self, network: nn.Module, frozen: Collection[str], epoch: int) -> None:
        self.updates += epoch >= self.first
        self._move(network, frozen, 1 / max(1, self.updates))


def make_average(network: nn.Module, config: FitConfig) -> Average | None:
    """Begin the average that a run keeps beside its weights.

    Args:
        network: What to average.
        config: The settings of the run.

    Returns:
        The average; ``None`` if the run keeps none.
    """
    if config.ema is not None:
        return EMA(network, config.ema)
    return None if config.swa is None else SWA(network, config.epochs - config.swa)


def _floating(network: nn.Module) -> dict[str, Tensor]:
    return {n: t.detach() for n, t in network.state_dict().items() if t.is_floating_point()}

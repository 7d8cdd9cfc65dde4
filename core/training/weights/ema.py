"""An exponential moving average of the weights (EMA) that leaves frozen tensors alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Keeps averaged copies of a network's floating-point tensors.

    The decay warms up as (1 + updates) / (10 + updates), so that the first steps count.

    Args:
        network: What to average; the copies start at its values.
        decay: Weight of the old average in an update, in (0, 1).

    Attributes:
        tensors: The averages, by names of the network's state.
        updates: How many updates were made.

    Examples:
        >>> layer = nn.Linear(1, 1)
        >>> average = EMA(layer, 0.9)
        >>> average.update(layer, frozen=set())
        >>> average.updates
        1
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {n: t.detach().clone() for n, t in _floating(network).items()}

    def update(self, network: nn.Module, frozen: Collection[str]) -> None:
        """Update the averages with the network's current values.

        Args:
            network: The network.
            frozen: Names that are not touched.
        """
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        present = _floating(network)
        names = [n for n in present if n not in frozen]
        torch._foreach_lerp_(
            [self.tensors[n] for n in names], [present[n] for n in names], 1 - decay
        )

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


def _floating(network: nn.Module) -> dict[str, Tensor]:
    return {n: t.detach() for n, t in network.state_dict().items() if t.is_floating_point()}

"""Between the weights that a run began with and those that it has: WiSE-FT in each epoch (Wortsman et al., 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from visiongraft.network import Network


class Interpolation:
    """Keeps the weights that a run began with, and loads those between them and the present ones.

    Args:
        network: A network with the weights of the beginning.
        steps: Number of steps from the beginning to the present weights.

    Attributes:
        alphas: Weights of the present weights, from 0 to 1.
    """

    def __init__(self, network: Network, steps: int) -> None:
        self.alphas = [step / steps for step in range(steps + 1)]
        self._start = {n: t.detach().clone() for n, t in _tensors(network).items()}

    @contextmanager
    def applied(self, network: Network, alpha: float) -> Iterator[None]:
        """Load the weights at an ``alpha`` into the network for the length of a block."""
        present = _tensors(network)
        kept = {n: t.clone() for n, t in present.items()}
        with torch.no_grad():
            for name, tensor in present.items():
                tensor.copy_(torch.lerp(self._start[name], kept[name], alpha))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in present.items():
                    tensor.copy_(kept[name])

    def moved(self, network: Network, names: frozenset[str]) -> bool:
        """Check whether any of these tensors is not what it was in the beginning."""
        present = _tensors(network)
        return any(not torch.equal(present[n], self._start[n]) for n in names & present.keys())


def _tensors(network: Network) -> dict[str, Tensor]:
    return {n: t.detach() for n, t in network.inference_state().items() if t.is_floating_point()}

"""The loss on validation images, for curves: nothing is trained or selected by it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from accelerate.utils import gather_object

from visiongraft.data.batch import Batch
from visiongraft.loss_parts import read_parts
from visiongraft.network import Network


class ValidationLoss:
    """Adds up the loss parts of validation batches, as far as the task has a loss there.

    A copy of the loss computes them, so that whatever a loss keeps learns nothing from validation images,
    and random numbers are as if it had not been computed.

    Args:
        network: The network that is measured.
    """

    def __init__(self, network: Network) -> None:
        self.task = network.task
        self.loss = deepcopy(network.loss).eval()
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, outputs: Any, batch: Batch) -> None:
        """Add a batch.

        Args:
            outputs: As ``Task.decode`` receives them.
            batch: The batch, on the device.
        """
        devices = [batch.images.device] if batch.images.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            found = self.task.validation_loss(self.loss, outputs, batch)
        if found is None:
            return
        for name, part in read_parts(found, self.task.name).items():
            weight = len(batch.sizes) if part.weight is None else float(part.weight)
            before = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (before[0] + part.mean * weight, before[1] + weight)

    def means(self, processes: int = 1) -> dict[str, float]:
        """Return the mean of each part over all processes, and their sum as ``"loss"``."""
        everyones = [self.sums] if processes == 1 else gather_object([self.sums])
        names = dict.fromkeys(name for sums in everyones for name in sums)
        means = {}
        for name in names:
            value, weight = (
                sum(sums.get(name, (0.0, 0.0))[i] for sums in everyones) for i in (0, 1)
            )
            means[name] = value / weight if weight else 0.0
        return {**means, "loss": sum(means.values())} if means else {}

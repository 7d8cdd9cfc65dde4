"""Measuring a network on samples, with the very modules that are exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.data.batch import Batch
from visiongraft.network import Network
from visiongraft.options import is_number
from visiongraft.task import Arrays, Decoded, Task
from visiongraft.task_contract import returned


def measure(task: Task, results: Iterable[tuple[Arrays, Any]]) -> dict[str, Any]:
    """Measure decoded results with a task's metrics.

    Args:
        task: Makes the metrics.
        results: Decoded arrays and collated targets, batch by batch.

    Returns:
        What the metrics computed.
    """
    metrics = task.build_metrics()
    for decoded, targets in results:
        metrics.update(decoded, targets)
    return metrics.compute()


def decode_batches(
    network: Network, batches: Iterable[Batch]
) -> Iterator[tuple[dict[str, NDArray[Any]], Batch]]:
    """Decode batches one by one, without gradients.

    Args:
        network: The network; left in evaluation mode.
        batches: On the CPU.

    Yields:
        Decoded arrays and the batch they belong to.
    """
    network.eval()
    device = next(network.parameters()).device
    for batch in batches:
        with torch.no_grad():
            moved = batch.to(device)
            decoded = network.decode(moved.images, moved.sizes)
        form = "a dict of tensors by name"
        for value in returned(network.task, "decode", decoded, dict, form).values():
            returned(network.task, "decode", value, Tensor, form)
        yield to_arrays(decoded), batch


def to_arrays(decoded: Decoded) -> dict[str, NDArray[Any]]:
    """Copy decoded tensors to numpy arrays."""
    return {name: np.asarray(value.detach().cpu().numpy()) for name, value in decoded.items()}


def scalars(results: dict[str, Any]) -> dict[str, float]:
    """Keep the results that are plain numbers; tables and per-class results are left out."""
    return {name: float(value) for name, value in results.items() if is_number(value, finite=False)}

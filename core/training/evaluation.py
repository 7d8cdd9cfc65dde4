"""Measuring a network on samples, with the very modules that are exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.data.batch import Batch
from visiongraft.data.groups import group_names
from visiongraft.data.loader import (
    BatchLoader,
    SampleDataset,
    default_workers,
    ordered_batches,
    pixels_at_once,
)
from visiongraft.data.samples import Samples
from visiongraft.network import Network
from visiongraft.options import is_number
from visiongraft.task import Arrays, Decoded, Metrics, Task
from visiongraft.task_contract.checks import returned

if TYPE_CHECKING:
    from visiongraft.training.measuring.own_metrics import OwnMetrics


def measure(
    task: Task, results: Iterable[tuple[Arrays, Any]], own: OwnMetrics | None = None
) -> dict[str, Any]:
    """Measure decoded results with a task's metrics.

    Args:
        task: Makes the metrics.
        results: Decoded arrays and collated targets, batch by batch.
        own: Metrics of the user's own.

    Returns:
        What the metrics computed.
    """
    metrics = build_metrics(task, own)
    for decoded, targets in results:
        metrics.update(decoded, targets)
    return metrics.compute()


def measure_all(
    task: Task,
    samples: Samples,
    by: str | None,
    results: Iterable[tuple[Arrays, Any, Sequence[int]]],
    own: OwnMetrics | None = None,
) -> dict[str, Any]:
    """Measure decoded results as a whole and, if asked to, by group.

    Args:
        task: Makes the metrics.
        samples: The samples that were decoded.
        by: What defines the groups, see ``group_names``; ``None`` for no groups.
        results: Decoded arrays, collated targets and positions of the samples, batch by batch.
        own: Metrics of the user's own.

    Returns:
        What the metrics computed for all samples and, as ``"groups"``, for those of each group, with
        their number as ``"images"``. Samples of no group are in the group ``""``.

    Raises:
        OptionError: No sample has the attribute.
    """
    if by is None:
        return measure(task, ((decoded, targets) for decoded, targets, _ in results), own)
    return measure_groups(task, samples, group_names(samples, by, "by"), results, own)


def measure_groups(
    task: Task,
    samples: Samples,
    values: Sequence[str],
    results: Iterable[tuple[Arrays, Any, Sequence[int]]],
    own: OwnMetrics | None = None,
) -> dict[str, Any]:
    """Measure decoded results as a whole and by group.

    Args:
        task: Makes the metrics.
        samples: The samples that were decoded.
        values: Name of the group of each sample.
        results: As for ``measure_all``.
        own: Likewise.

    Returns:
        As ``measure_all`` with groups.
    """
    whole = build_metrics(task, own)
    groups: dict[str, tuple[Metrics, list[int]]] = {
        value: (build_metrics(task, own), []) for value in sorted(set(values))
    }
    for decoded, targets, positions in results:
        whole.update(decoded, targets)
        for value in sorted({values[position] for position in positions}):
            rows = [row for row, position in enumerate(positions) if values[position] == value]
            metrics, members = groups[value]
            members += [positions[row] for row in rows]
            update_rows(metrics, task, samples, decoded, positions, rows)
    found = {
        value: {**metrics.compute(), "images": len(members)}
        for value, (metrics, members) in groups.items()
    }
    return {**whole.compute(), "groups": found}


def build_metrics(task: Task, own: OwnMetrics | None) -> Metrics:
    """Create empty metrics: those of the task, and those of the user beside them."""
    return task.build_metrics() if own is None else own.beside(task)


def update_rows(
    metrics: Metrics,
    task: Task,
    samples: Samples,
    decoded: Arrays,
    positions: Sequence[int],
    rows: Sequence[int] | NDArray[np.int64],
) -> None:
    """Add some samples of a decoded batch to metrics.

    Args:
        metrics: Changed in place.
        task: Collates targets.
        samples: The samples that were decoded.
        decoded: Arrays of the batch.
        positions: Positions of its samples.
        rows: Rows of the batch to add; nothing happens without any.
    """
    if len(rows):
        targets = task.collate([samples.target(positions[row]) for row in rows])
        metrics.update({name: array[rows] for name, array in decoded.items()}, targets)


def decode_batches(
    network: Network,
    batches: Iterable[Batch],
    *,
    for_metrics: bool = True,
    watch: Callable[[Any, Batch], None] | None = None,
) -> Iterator[tuple[dict[str, NDArray[Any]], Batch]]:
    """Decode batches one by one, without gradients.

    Args:
        network: The network; left in evaluation mode.
        batches: On the CPU.
        for_metrics: Whether batches have targets, and results contain those of
            ``Task.evaluation_step``.
        watch: Called with the outputs of each batch, as ``Task.decode`` receives them, and the batch, both
            on the device.

    Yields:
        Decoded arrays and the batch they belong to.
    """
    network.eval()
    device = next(network.parameters()).device
    for batch in batches:
        with torch.no_grad():
            moved = batch.to(device)
            outputs = network.outputs(moved.images, moved.sizes)
            decoded = network.task.decode(outputs, moved.sizes)
            if watch is not None:
                watch(outputs, moved)
            further = network.task.evaluation_step(network, moved) if for_metrics else {}
        form = "a dict of tensors by name"
        for value in returned(network.task, "decode", decoded, dict, form).values():
            returned(network.task, "decode", value, Tensor, form)
        yield to_arrays({**decoded, **further}), batch


def decode_samples(
    network: Network, samples: Samples, batch_size: int, *, for_metrics: bool = True
) -> Iterator[tuple[dict[str, NDArray[Any]], Any, list[int]]]:
    """Load, preprocess and decode samples, without gradients.

    Args:
        network: The network; left in evaluation mode.
        samples: The samples.
        batch_size: Images per forward pass.
        for_metrics: Whether targets are collated, and results contain those of
            ``Task.evaluation_step``.

    Yields:
        Decoded arrays, collated targets (a list of them if not ``for_metrics``) and positions, batch
        by batch.
    """
    device = next(network.parameters()).device
    loader = BatchLoader(
        SampleDataset(samples, network.preprocess_on_cpu()),
        network.task.collate if for_metrics else list,
        default_workers(device),
        one_size=network.one_size,
        pixels=pixels_at_once(device),
    )
    plan = ordered_batches(len(samples), batch_size)
    batches = loader.batches([[(i, 0) for i in batch] for batch in plan])
    for decoded, batch in decode_batches(network, batches, for_metrics=for_metrics):
        yield decoded, batch.targets, batch.indices.tolist()


def to_arrays(decoded: Decoded) -> dict[str, NDArray[Any]]:
    """Copy decoded tensors to numpy arrays."""
    return {name: np.asarray(value.detach().cpu().numpy()) for name, value in decoded.items()}


def scalars(results: dict[str, Any]) -> dict[str, float]:
    """Keep the results that are plain numbers; tables and per-class results are left out."""
    return {name: float(value) for name, value in results.items() if is_number(value, finite=False)}

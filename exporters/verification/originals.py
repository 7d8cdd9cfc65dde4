"""Results of a file, brought to the images as they were, which targets belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from visiongraft.data.nearest import Size, at_size

if TYPE_CHECKING:
    from visiongraft.task import Task

Arrays = Mapping[str, NDArray[Any]]


def for_targets(task: Task, results: Arrays, bare: Size | None, taken: Size, was: Size) -> Arrays:
    """Bring results to the size of the image that the target belongs to.

    Args:
        task: Knows what its results are.
        results: Decoded results, of PyTorch or of the file.
        bare: Height and width of the network's input where the file is the bare network, which
            gives maps at that size; else ``None``.
        taken: Height and width of the image that the file took.
        was: Height and width of the image before it was resized to that.

    Returns:
        What the task's metric takes.
    """
    if bare is not None and bare != taken and task.full_resolution_outputs:
        results = at_size(results, bare, taken)
    if taken == was:
        return results
    rescale = task.export_support().rescale
    if rescale is None:
        return at_size(results, taken, was) if task.full_resolution_outputs else results
    return rescale(results, taken, was)

"""Find the functions of a task that need no PyTorch, by the installed plugins' entry points.

Entry points are named after the task:

- ``visiongraft.predictions``: ``function(arrays, task_metadata)`` returns one typed prediction per
  image;
- ``visiongraft.drawings``: ``function(image, prediction)`` returns the image with a typed prediction
  drawn on it, both as PIL images.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from visiongraft.errors import PluginError, type_and_message

PREDICTIONS = "visiongraft.predictions"
DRAWINGS = "visiongraft.drawings"


def task_function(group: str, task: str) -> Callable[..., Any] | None:
    """Load a function of a task.

    Args:
        group: ``PREDICTIONS`` or ``DRAWINGS``.
        task: Name of the task.

    Returns:
        The function, or ``None`` if no installed plugin provides it.

    Raises:
        PluginError: It cannot be loaded.
    """
    for point in task_functions(group, task).values():
        return load_task_function(point)
    return None


def task_functions(group: str, task: str) -> dict[str, EntryPoint]:
    """Return what installed distributions provide for a task, by name of the distribution.

    Args:
        group: ``PREDICTIONS`` or ``DRAWINGS``.
        task: Name of the task.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group, name=task):
        found.setdefault("-" if point.dist is None else point.dist.name, point)
    return found


def load_task_function(point: EntryPoint) -> Callable[..., Any]:
    """Load one of ``task_functions``.

    Raises:
        PluginError: It cannot be loaded.
    """
    try:
        function: Callable[..., Any] = point.load()
    except Exception as error:  # third-party modules may raise anything
        kind = point.group.rpartition(".")[2]
        raise PluginError(
            f"{kind} of task {point.name!r} ({point.value}) cannot be loaded: "
            f"{type_and_message(error)}"
        ) from error
    return function

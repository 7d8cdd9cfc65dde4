"""Find the functions of a task that need no PyTorch, by the installed plugins' entry points.

Entry points are named after the task:

- ``visiongraft.predictions``: ``function(arrays, task_metadata)`` returns one typed prediction per
  image;
- ``visiongraft.drawings``: ``function(image, prediction)`` returns the image with a typed prediction
  drawn on it, both as PIL images.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
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
    found = tuple(entry_points(group=group, name=task))
    if not found:
        return None
    try:
        function: Callable[..., Any] = found[0].load()
    except Exception as error:  # third-party modules may raise anything
        kind = group.rpartition(".")[2]
        raise PluginError(
            f"{kind} of task {task!r} ({found[0].value}) cannot be loaded: "
            f"{type_and_message(error)}"
        ) from error
    return function

"""Find what a task's plugin offers for predictions from a file, without PyTorch.

Entry points, named after the task:

- ``visiongraft.predictions``: ``function(arrays, task_metadata)`` gives one typed prediction per
  image;
- ``visiongraft.drawings``: ``function(image, prediction)`` gives the image with a typed
  prediction drawn on it, both as PIL images.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from visiongraft.errors import PluginError, type_and_message

PREDICTIONS = "visiongraft.predictions"
DRAWINGS = "visiongraft.drawings"


def task_function(group: str, task: str) -> Callable[..., Any] | None:
    """Load a task's function.

    Args:
        group: One of the two groups above.
        task: Name of the task.

    Returns:
        The function, or ``None`` if no installed plugin has one.

    Raises:
        PluginError: It cannot be loaded.
    """
    found = tuple(entry_points(group=group, name=task))
    if not found:
        return None
    try:
        function: Callable[..., Any] = found[0].load()
    except Exception as error:  # a stranger's module may raise anything
        kind = group.rpartition(".")[2]
        raise PluginError(
            f"{kind} of task {task!r} ({found[0].value}) cannot be loaded: "
            f"{type_and_message(error)}"
        ) from error
    return function

"""Find the functions of a task that need no PyTorch, by the installed plugins' entry points.

Entry points are named after the task:

- ``visiongraft.predictions``: ``function(arrays, task_metadata)`` returns one typed prediction per
  image;
- ``visiongraft.drawings``: ``function(image, prediction)`` returns the image with a typed prediction
  drawn on it, both as PIL images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from visiongraft.registry.functions import functions

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
        PluginError: It cannot be loaded, or several plugins provide it.
    """
    found = functions(group).get(task)
    if found is None:
        return None
    function: Callable[..., Any] = found.load(f"the {found.kind} function of task {task!r}")
    return function

"""Find the functions of a task that need no PyTorch, by the installed plugins' entry points.

Entry points are named after the task:

- ``visiongraft.predictions``: ``function(arrays, task_metadata)`` returns one typed prediction per
  image;
- ``visiongraft.drawings``: ``function(image, prediction)`` returns the image with a typed prediction
  drawn on it, both as PIL images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from visiongraft.registry.functions import Function, functions

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
    return None if found is None else load_task_function(found)


def task_functions(group: str, task: str) -> dict[str, Function]:
    """Return the functions that installed plugins provide for a task, by name of the distribution.

    Args:
        group: ``PREDICTIONS`` or ``DRAWINGS``.
        task: Name of the task.
    """
    found = functions(group).get(task)
    if found is None:
        return {}
    return {owner[1].name: replace(found, owners=(owner,)) for owner in found.owners}


def load_task_function(function: Function) -> Callable[..., Any]:
    """Load one of ``task_functions``.

    Raises:
        PluginError: It cannot be loaded, or several plugins provide it.
    """
    described = f"the {function.kind} function of task {function.name!r}"
    loaded: Callable[..., Any] = function.load(described)
    return loaded

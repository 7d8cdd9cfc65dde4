"""The functions that decode and draw predictions: those of the task that a file was exported from.

Functions are found by the task's name, which another class can have as well, such as a subclass that
makes other predictions. So a file records whose they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from visiongraft.errors import ArtifactError
from visiongraft.task_contract.functions import (
    DRAWINGS,
    PREDICTIONS,
    load_task_function,
    task_function,
    task_functions,
)

FUNCTIONS = "functions"  # the key in the metadata
METHODS = {PREDICTIONS: "predictions", DRAWINGS: "draw"}  # of a task, by their groups


def recorded_function(
    path: Path, metadata: Mapping[str, Any], group: str
) -> Callable[..., Any] | None:
    """Load the function of a group that belongs to a file.

    Args:
        path: The file, for messages.
        metadata: Its metadata.
        group: ``PREDICTIONS`` or ``DRAWINGS``.

    Returns:
        The function; ``None`` if none is installed for the task.

    Raises:
        ArtifactError: All that are installed belong to another class or distribution.
        PluginError: It cannot be loaded.
    """
    task, method = metadata["task"], METHODS[group]
    record = metadata.get(FUNCTIONS, {}).get(method)
    if record is None:  # written by visiongraft 0.2
        return task_function(group, task)
    installed = task_functions(group, task)
    owner, others = record["distribution"], record["others"]
    for distribution, function in installed.items():
        if distribution == owner or (owner is None and distribution not in others):
            return load_task_function(function)
    if not installed:
        return None
    found = " and ".join(installed)
    if owner is None:
        raise ArtifactError(
            f"{path} was exported from a task with {record['method']}, but the function for task "
            f"{task!r} of {found} belongs to another class; call run() for the arrays, or rename the "
            f"task and install its function in the entry-point group {group}"
        )
    raise ArtifactError(
        f"{path} was exported from a task whose {method} function is that of {owner}, but the one that "
        f"is installed for task {task!r} is of {found}; install or enable {owner}"
    )


def is_record(value: Any) -> bool:
    """Check whether a value in the metadata is a record of functions."""
    return isinstance(value, dict) and all(map(_is_entry, value.values()))


def _is_entry(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("method"), str):
        return False
    owner, others = value.get("distribution", 0), value.get("others")
    return (
        (owner is None or isinstance(owner, str))
        and isinstance(others, list)
        and all(isinstance(name, str) for name in others)
    )

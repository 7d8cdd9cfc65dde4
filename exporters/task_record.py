"""Record whose functions decode and draw the predictions of an exported file."""

from __future__ import annotations

from typing import Any

from visiongraft.exporters.runtime.task_record import METHODS
from visiongraft.registry.manager import plugins
from visiongraft.saving.classes import class_path
from visiongraft.task import Task
from visiongraft.task_contract.functions import task_functions


def functions_of(task: Task) -> dict[str, Any]:
    """Find the installed functions that do without PyTorch what a task's methods do.

    Args:
        task: The task that is exported.

    Returns:
        JSON values by name of the method: ``method``, where it is defined; ``distribution`` whose function
        does the same, ``None`` if there is none; and ``others``, whose function belongs to another class of
        the task's name.
    """
    found: dict[str, Any] = {}
    for group, name in METHODS.items():
        method = getattr(type(task), name)
        own: list[str] = []
        others: list[str] = []
        for distribution in task_functions(group, task.name):
            same = _is_of(distribution, task, name)
            (own if same else others).append(distribution)
        owner = own[0] if own else None
        found[name] = {"method": class_path(method), "distribution": owner, "others": others}
    return found


def _is_of(distribution: str, task: Task, name: str) -> bool:
    """Check whether the task of a distribution has the same method; one without a task may serve any."""
    key = f"{distribution}:{task.name}"
    if not plugins().provides("task", key):
        return True
    return getattr(plugins().get("task", key), name) is getattr(type(task), name)

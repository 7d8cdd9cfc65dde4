"""Several heads on one backbone: existing tasks, built-in or third-party, composed to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Return the task. PyTorch is imported here, because the deployed runtime does not need it."""
    from visiongraft.multi_task.task import MultiTask

    return [MultiTask]

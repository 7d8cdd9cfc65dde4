"""Object detection: boxes, label names and scores of the things in an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Provide the task; PyTorch is imported only now, since deployed files need none of it."""
    from visiongraft.plugins.detection.task import Detection

    return [Detection]

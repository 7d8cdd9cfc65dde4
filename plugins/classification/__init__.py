"""Image classification: one label per image, or any number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Provide the task; PyTorch is imported only now, since deployed files need none of it."""
    from visiongraft.plugins.classification.task import Classification

    return [Classification]

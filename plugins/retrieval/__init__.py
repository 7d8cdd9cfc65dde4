"""Images and captions in one space: search images by words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Return the task. PyTorch is imported here, because the deployed runtime does not need it."""
    from visiongraft.plugins.retrieval.task import Retrieval

    return [Retrieval]

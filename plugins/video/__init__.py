"""Video classification: the classes of clips, on backbones for images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.adapters import Adapter
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Return the task. PyTorch is imported here, because the deployed runtime does not need it."""
    from visiongraft.plugins.video.task import Video

    return [Video]


@hookimpl
def register_adapters() -> list[type[Adapter]]:
    """Return what lets backbones for images see neighboring frames."""
    from visiongraft.plugins.video.shift import TSM

    return [TSM]

"""Face embedding: unit vectors that are near each other where two images show one identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.data.readers import DataReader
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Provide the task; PyTorch is imported only now, since deployed files need none of it."""
    from visiongraft.plugins.face_embedding.task import FaceEmbedding

    return [FaceEmbedding]


@hookimpl
def register_readers() -> list[DataReader]:
    """Provide CelebA's attributes as labels, for tasks that learn labels."""
    from visiongraft.plugins.face_embedding.formats.celeba import CelebaAttributes

    return [CelebaAttributes()]

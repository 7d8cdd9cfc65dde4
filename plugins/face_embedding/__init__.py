"""Face embedding: unit vectors that are close together if two images show the same identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.backbone import BackboneSource
    from visiongraft.data.readers import DataReader
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Register the task; PyTorch is imported only now, since exported files do not need it."""
    from visiongraft.plugins.face_embedding.task import FaceEmbedding

    return [FaceEmbedding]


@hookimpl
def register_backbones() -> list[BackboneSource]:
    """Register networks that were published for faces."""
    from visiongraft.plugins.face_embedding.networks.source import FaceSource

    return [FaceSource()]


@hookimpl
def register_readers() -> list[DataReader]:
    """Register CelebA's attributes as labels, for tasks that learn labels."""
    from visiongraft.plugins.face_embedding.formats.celeba import CelebaAttributes

    return [CelebaAttributes()]

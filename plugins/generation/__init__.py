"""Image generation: variational autoencoders and adversarial training, as transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.backbone import BackboneSource
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Return the task. PyTorch is imported here, because the deployed runtime does not need it."""
    from visiongraft.plugins.generation.task import Generation

    return [Generation]


@hookimpl
def register_backbones() -> list[BackboneSource]:
    """Return small backbones: critics, and encoders of autoencoders."""
    from visiongraft.plugins.generation.encoders import EncoderSource

    return [EncoderSource()]

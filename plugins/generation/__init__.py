"""Image generation: variational autoencoders and adversarial training, as transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.backbone import BackboneSource
    from visiongraft.task import Task
    from visiongraft.training.transfer_losses import TransferLoss


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


@hookimpl
def register_losses() -> list[type[TransferLoss]]:
    """Return what keeps a generator close to where it began."""
    from visiongraft.plugins.generation.ewc import GeneratorEWC

    return [GeneratorEWC]


@hookimpl
def register_callbacks() -> list[type[Any]]:
    """Return the callback that draws generated images."""
    from visiongraft.plugins.generation.figures import SampleFigures

    return [SampleFigures]

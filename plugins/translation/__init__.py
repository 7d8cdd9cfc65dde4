"""Image-to-image translation: an image of the same size for every image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.task import Task
    from visiongraft.training.transfer_losses import TransferLoss


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Return the tasks. PyTorch is imported here, because the deployed runtime does not need it."""
    from visiongraft.plugins.translation.task import Translation
    from visiongraft.plugins.translation.unpaired.task import UnpairedTranslation

    return [Translation, UnpairedTranslation]


@hookimpl
def register_losses() -> list[type[TransferLoss]]:
    """Return the transfer loss that compares images."""
    from visiongraft.plugins.translation.perceptual import Perceptual

    return [Perceptual]

"""What one step of training or evaluation works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class StepInfo:
    """Where in a run a training step is.

    Attributes:
        optimizer: Name of the optimizer that the step is for, see ``Task.optimizers``.
        number: Steps of the run before it.
        progress: Fraction of the run's epochs that has passed, in [0, 1).
        transfer: Whether transfer losses are added to the step, see ``OptimizerSpec``.
    """

    optimizer: str = "main"
    number: int = 0
    progress: float = 0.0
    transfer: bool = True


@dataclass
class Batch:
    """What one step works on.

    Attributes:
        images: float (N, C, height, width), preprocessed; of clips (N, T, C, height, width).
        targets: What the task's ``collate`` made.
        sizes: int64 (N, 2), original height and width in pixels.
        indices: int64 (N,), position of each sample in its ``Samples``.
        streams: In training a batch of each stream of the run, by name, see ``Task.streams``.
        step: Where in the run this training step is.
    """

    images: Tensor
    targets: Any
    sizes: Tensor
    indices: Tensor
    step: StepInfo = StepInfo()
    streams: Mapping[str, Batch] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """Copy to a device; images in the memory layout that suits convolutions best."""
        images = self.images.to(device, non_blocking=True)
        if images.stride(-1):  # a stand-in without content has stride 0
            images = channels_last(images)
        targets = pytree.tree_map_only(
            Tensor, lambda t: t.to(device, non_blocking=True), self.targets
        )
        streams = {name: batch.to(device) for name, batch in self.streams.items()}
        return replace(
            self, images=images, targets=targets, sizes=self.sizes.to(device), streams=streams
        )


def channels_last(images: Tensor) -> Tensor:
    """Copy images, or the frames of clips, to the memory layout that suits convolutions best.

    Args:
        images: (N, C, height, width), or of clips (N, T, C, height, width); others are returned.
    """
    if images.ndim == 5:
        frames: Tensor = channels_last(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return frames
    if images.ndim != 4:
        return images
    return images.contiguous(memory_format=torch.channels_last)


def weights_channels_last(module: nn.Module) -> None:
    """Put weights of convolutions over images into the layout of ``channels_last``.

    Args:
        module: Changed in place; convolutions over space and time keep their layout.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)


def class_ids(targets: Any) -> Tensor | None:
    """Return targets of a batch if they are one class id per sample.

    Args:
        targets: What a task collated.

    Returns:
        int64 (N,), or ``None`` if the targets are anything else.
    """
    integers = (torch.int64, torch.int32, torch.int16, torch.uint8)
    if isinstance(targets, Tensor) and targets.ndim == 1 and targets.dtype in integers:
        return targets.long()
    return None


def class_sets(targets: Any, classes: int) -> Tensor | None:
    """Return targets of a batch if they are sets of classes.

    Args:
        targets: What a task collated.
        classes: Number of classes C.

    Returns:
        bool (N, C), which classes each sample has; ``None`` if the targets are anything else.

    Examples:
        >>> import torch
        >>> class_sets(torch.tensor([[1.0, 0.0]]), 2)
        tensor([[ True, False]])
        >>> class_sets(torch.tensor([[0.3, 0.7]]), 2) is None
        True
    """
    if not isinstance(targets, Tensor) or targets.ndim != 2 or targets.shape[1] != classes:
        return None
    ones = targets == 1
    return ones if bool((ones | (targets == 0)).all()) else None

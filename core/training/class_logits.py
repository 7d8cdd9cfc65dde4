"""Logits of classes, for methods that need class probabilities whatever the task is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from visiongraft.errors import OptionError
from visiongraft.network import Network
from visiongraft.seeds import preserved
from visiongraft.task import Task


def class_logits(task: Task, outputs: Any, user: str, targets: Any = None) -> Tensor:
    """Return a task's logits of classes that exclude each other.

    Args:
        task: The task.
        outputs: What its head returned.
        user: What needs them, for the message.
        targets: Collated targets, if they are known.

    Returns:
        float32 (N, C, ...), with gradients.

    Raises:
        OptionError: The task has none, or did not say that its images have several classes.
    """
    logits = task.class_logits(outputs)
    if logits is not None and has_several_classes(task, targets, logits.shape[1]):
        raise OptionError(
            f"{user} needs the probabilities of classes that exclude each other, but images of task "
            f"{task.name!r} have none or several; its class_logits has to return None"
        )
    if logits is None:
        raise OptionError(
            f"{user} needs the probabilities of classes that exclude each other, which task "
            f"{task.name!r} does not have (Task.class_logits returns None)"
        )
    return logits.float()


def states_class_logits(task: Task) -> bool:
    """Check whether a task says itself what its class logits are."""
    return type(task).class_logits is not Task.class_logits


def has_several_classes(task: Task, targets: Any, classes: int) -> bool:
    """Check whether targets show that classes do not exclude each other, if the task does not say it.

    Args:
        task: The task; what it says by a ``class_logits`` of its own holds.
        targets: Collated targets.
        classes: How many classes there are.

    Returns:
        Whether there are numbers (N, C) that do not add up to 1 for each image, as several labels do.
    """
    if states_class_logits(task):
        return False
    return any(
        isinstance(leaf, Tensor)
        and leaf.ndim == 2
        and leaf.shape[1] == classes
        and not torch.allclose(leaf.float().sum(1), leaf.new_ones(len(leaf)).float(), atol=1e-3)
        for leaf in tree_leaves(targets)
    )


def trial_logits(network: Network, user: str) -> Tensor:
    """Compute the class logits of two black images, to learn their shape before training.

    Args:
        network: The network; left as it was.
        user: What needs them, for the message.

    Returns:
        float32 (2, C, ...), without gradients.

    Raises:
        OptionError: The task has none.
    """
    info, modes = network.backbone.info, [(m, m.training) for m in network.modules()]
    shape = network.preprocess.inputs.blank(2, info.in_channels, info.preprocess.size)
    network.eval()
    with torch.no_grad(), preserved():
        outputs = network.head(network.backbone(torch.zeros(shape)))
    for module, mode in modes:
        module.training = mode
    return class_logits(network.task, outputs, user)

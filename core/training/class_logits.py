"""Logits of classes, for methods that need class probabilities whatever the task is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visiongraft.errors import OptionError
from visiongraft.network import Network
from visiongraft.seeds import preserved
from visiongraft.task import Task


def class_logits(task: Task, outputs: Any, user: str) -> Tensor:
    """Return a task's logits of classes that exclude each other.

    Args:
        task: The task.
        outputs: What its head returned.
        user: What needs them, for the message.

    Returns:
        float32 (N, C, ...), with gradients.

    Raises:
        OptionError: The task has none.
    """
    logits = task.class_logits(outputs)
    if logits is None:
        raise OptionError(
            f"{user} needs the probabilities of classes that exclude each other, which task "
            f"{task.name!r} has not (Task.class_logits returns None)"
        )
    return logits.float()


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

"""Build the loss of a task, which may take the backbone."""

from __future__ import annotations

import inspect

from torch import nn

from visiongraft.backbone import Backbone
from visiongraft.errors import PluginError
from visiongraft.task import Task


def build_loss(task: Task, backbone: Backbone) -> nn.Module:
    """Call ``Task.build_loss``, with the backbone if it takes one.

    Args:
        task: The task.
        backbone: The backbone that will train.

    Returns:
        The loss.

    Raises:
        PluginError: The loss registers the backbone itself, or a part of it.
    """
    build = task.build_loss
    takes = "backbone" in inspect.signature(build).parameters
    loss: nn.Module = build(backbone) if takes else build()  # type: ignore[call-arg]
    own = {id(parameter) for parameter in backbone.parameters()}
    if takes and any(id(parameter) in own for parameter in loss.parameters()):
        raise PluginError(
            f"task {task.name!r}: the loss registers the backbone as its own, which would train and save "
            "it twice; copy it (copy.deepcopy), or take it from the network that training_step() receives"
        )
    return loss

"""Checkpoints of whole networks that other libraries published, in the terms of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Published:
    """A checkpoint of backbone and head, recognized by the names of its tensors.

    Attributes:
        architecture: What it is, for messages, such as ``"fcos_resnet50_fpn of torchvision"``.
        backbone: Full name of the backbone that its tensors fit.
        options: Options that the task needs for it, such as ``{"head": "fcos"}`` and the names of the
            classes that it was trained on.
        backbone_tensors: Its tensors for the backbone, by names that ``Backbone.convert_weights`` takes.
        head_tensors: Its tensors for the head, by the names of the head's ``state_dict()``.
        unused: Names of tensors that neither has, such as those of an auxiliary head.
        size: Height and width that its images had; ``None`` leaves the choice to task and backbone.
        resize: How its images were resized, likewise.
    """

    architecture: str
    backbone: str
    options: Mapping[str, Any]
    backbone_tensors: Mapping[str, Tensor]
    head_tensors: Mapping[str, Tensor]
    unused: tuple[str, ...] = field(default=())
    size: tuple[int, int] | None = None
    resize: str | None = None

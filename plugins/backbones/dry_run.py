"""Run one forward pass at build time, to check the size and to record the order of modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visiongraft.backbone import Features
from visiongraft.errors import one_line
from visiongraft.plugins.backbones.errors import unsupported


@dataclass(frozen=True)
class DryRun:
    """The results of one forward pass.

    Attributes:
        features: The features of one blank image.
        called: Names of the modules in the order of their first call.
    """

    features: Features
    called: tuple[str, ...]


def dry_run(
    name: str,
    model: nn.Module,
    forward: Callable[[Tensor], Features],
    in_channels: int,
    size: tuple[int, int],
    *,
    default_size: bool = False,
) -> DryRun:
    """Run a model once on a blank image, in evaluation mode and without gradients.

    Args:
        name: Full name of the backbone, for messages.
        model: The model; it is left in training mode and otherwise unchanged.
        forward: Function from images (1, in_channels, height, width) to features.
        in_channels: Number of image channels.
        size: Height and width in pixels.
        default_size: Whether this is the architecture's default size; an error is then not about
            the size.

    Returns:
        The features and the order of modules.

    Raises:
        BackboneError: The architecture does not support this size, or returns no feature maps.
    """
    called: dict[str, None] = {}

    def record(module_name: str) -> Callable[..., None]:
        return lambda *_: called.setdefault(module_name)

    hooks = [m.register_forward_pre_hook(record(n)) for n, m in model.named_modules()]
    model.eval()
    try:
        with torch.no_grad():
            features = forward(torch.zeros(1, in_channels, *size))
    except Exception as error:  # architectures raise anything on unsupported sizes
        raise unsupported(name, None if default_size else size, one_line(error)) from error
    finally:
        for hook in hooks:
            hook.remove()
        model.train()
    if not all(m.ndim == 4 and min(m.shape) > 0 for m in features.maps):
        raise unsupported(name, None if default_size else size, "it returns no feature maps")
    return DryRun(features, tuple(called))

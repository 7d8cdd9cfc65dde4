"""One forward pass at build time: does the size fit, and in which order do modules run?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visiongraft.backbone import Features
from visiongraft.errors import one_line
from visiongraft.plugins.backbones.refusals import refused


@dataclass(frozen=True)
class Probe:
    """What a forward pass showed.

    Attributes:
        features: The features of one blank image.
        called: Names of the modules that ran, by first call.
    """

    features: Features
    called: tuple[str, ...]


def probe(
    name: str,
    model: nn.Module,
    forward: Callable[[Tensor], Features],
    in_channels: int,
    size: tuple[int, int],
    *,
    own_size: bool = False,
) -> Probe:
    """Run a model once on a blank image, in evaluation mode and without gradients.

    Args:
        name: Full name of the backbone, for messages.
        model: Its modules; they end in training mode, otherwise unchanged.
        forward: From images (1, in_channels, height, width) to features.
        in_channels: Number of image channels.
        size: Height and width in pixels.
        own_size: Whether this is the architecture's own size, and so not what it refuses.

    Returns:
        What came out.

    Raises:
        BackboneError: The architecture refuses this size, or gives no features at all.
    """
    called: dict[str, None] = {}

    def note(module_name: str) -> Callable[..., None]:
        return lambda *_: called.setdefault(module_name)

    hooks = [m.register_forward_pre_hook(note(n)) for n, m in model.named_modules()]
    model.eval()
    try:
        with torch.no_grad():
            features = forward(torch.zeros(1, in_channels, *size))
    except Exception as error:  # architectures refuse sizes in any way they like
        raise refused(name, None if own_size else size, one_line(error)) from error
    finally:
        for hook in hooks:
            hook.remove()
        model.train()
    if not all(m.ndim == 4 and min(m.shape) > 0 for m in features.maps):
        raise refused(name, None if own_size else size, "it gives no feature maps")
    return Probe(features, tuple(called))

"""How long a backbone takes for one image on this machine."""

from __future__ import annotations

import time

import torch

from visiongraft.lookup.backbones import load_backbone
from visiongraft.seeds import preserved

FEWEST, LONGEST = 3, 1.0  # passes, and seconds after which there are no more


def forward_milliseconds(name: str) -> float:
    """Measure the forward pass of a backbone with random weights, on one image of its own size on the CPU.

    Args:
        name: Full name of a backbone.

    Returns:
        Milliseconds of the fastest of several passes, with as many threads as PyTorch uses.

    Raises:
        BackboneError: The name is unknown.

    Examples:
        >>> forward_milliseconds("simple_cnn") > 0
        True
    """
    with preserved():
        backbone = load_backbone(name, None).eval()
    info = backbone.info
    images = torch.zeros(1, info.in_channels, *info.preprocess.size)
    passes: list[float] = []
    with torch.inference_mode():
        backbone(images)
        while len(passes) < FEWEST or sum(passes) < LONGEST:
            began = time.perf_counter()
            backbone(images)
            passes.append(time.perf_counter() - began)
    return 1000 * min(passes)

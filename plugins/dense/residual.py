"""Recognize residual networks of torchvision by the names of their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Blocks of each stage, and whether they are bottlenecks.
NETWORKS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
WIDTH = 64  # of the first stage; wider and grouped networks are others


def residual_name(tensors: Mapping[str, Tensor]) -> str | None:
    """Return torchvision's name of the residual network that some tensors are of.

    Args:
        tensors: Tensors by torchvision's names, such as ``layer1.0.conv1.weight``.

    Returns:
        The name; ``None`` for another network.

    Examples:
        >>> residual_name({}) is None
        True
    """
    blocks = [0] * 4
    for name in tensors:
        found = re.match(r"layer([1-4])\.(\d+)\.", name)
        if found:
            blocks[int(found[1]) - 1] = max(blocks[int(found[1]) - 1], int(found[2]) + 1)
    bottleneck = "layer1.0.conv3.weight" in tensors
    inner = tensors.get("layer1.0.conv2.weight")
    if inner is None or tuple(inner.shape[:2]) != (WIDTH, WIDTH):
        return None
    return NETWORKS.get((tuple(blocks), bottleneck))

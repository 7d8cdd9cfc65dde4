"""torchvision's residual networks with dilated last stages, as its segmentation models use them."""

from __future__ import annotations

from typing import Any

SUFFIX = "_dilated"
FAMILIES = ("resnet50", "resnet101", "resnet152", "resnext", "wide_resnet")
OPTIONS = {"replace_stride_with_dilation": [False, True, True]}


def undilated(name: str) -> str:
    """Return the name of the same network with its usual strides.

    Examples:
        >>> undilated("resnet50_dilated"), undilated("resnet50")
        ('resnet50', 'resnet50')
    """
    return name.removesuffix(SUFFIX)


def is_dilated(name: str) -> bool:
    """Check whether a name is that of a dilated network.

    Examples:
        >>> is_dilated("resnet50_dilated"), is_dilated("resnet50"), is_dilated("vgg11_dilated")
        (True, False, False)
    """
    return name.endswith(SUFFIX) and name.startswith(FAMILIES)


def dilation_options(name: str) -> dict[str, Any]:
    """Return what torchvision's builder needs for a name."""
    return dict(OPTIONS) if is_dilated(name) else {}

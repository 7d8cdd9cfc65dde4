"""The backbones that come with visiongraft; each family is found like any third party's."""

from __future__ import annotations

from visiongraft.backbone import BackboneSource
from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.backbones.bundled import BundledSource
from visiongraft.plugins.backbones.simple_cnn import SimpleCnnSource
from visiongraft.plugins.backbones.timm_source import TimmSource
from visiongraft.plugins.backbones.torchvision_source import TorchvisionSource


@hookimpl
def register_backbones() -> list[BackboneSource]:
    """Provide timm's, torchvision's and the bundled backbones, and the teaching example."""
    return [BundledSource(), TimmSource(), TorchvisionSource(), SimpleCnnSource()]

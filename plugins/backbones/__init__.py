"""Built-in backbones, registered like those of third parties."""

from __future__ import annotations

from visiongraft.backbone import BackboneSource
from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.backbones.bundled import BundledSource
from visiongraft.plugins.backbones.hf_source import HfSource
from visiongraft.plugins.backbones.open_clip_source import OpenClipSource
from visiongraft.plugins.backbones.simple_cnn import SimpleCnnSource
from visiongraft.plugins.backbones.timm_source import TimmSource
from visiongraft.plugins.backbones.torchvision_source import TorchvisionSource
from visiongraft.plugins.backbones.video_source import TorchvisionVideoSource


@hookimpl
def register_backbones() -> list[BackboneSource]:
    """Return the sources of all built-in backbones."""
    torchvision = (TorchvisionSource(), TorchvisionVideoSource())
    return [
        BundledSource(),
        TimmSource(),
        *torchvision,
        HfSource(),
        OpenClipSource(),
        SimpleCnnSource(),
    ]

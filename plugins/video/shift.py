"""Temporal shift: an adapter by which a backbone for images sees neighboring frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.adapters import Adapter, Applied, LayerAdapter, own_modules
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.options import check_integer

SKIPS = (
    "has_skip",
    "use_res_connect",
)  # of blocks of which only some have a shortcut: timm, torchvision
SHORTCUTS = ("downsample", "shortcut")  # of residual blocks


@dataclass
class ClipLength:
    """Remembers, as a hook of a backbone, how many frames the clips have that it runs on.

    Attributes:
        frames: Frames of a clip; ``None`` for those that it gets.
        seen: Frames of the clips that it got last; 1 for images.
    """

    frames: int | None
    seen: int = 1

    def __call__(self, backbone: nn.Module, args: tuple[Any, ...]) -> None:
        """See what the backbone gets.

        Raises:
            OptionError: Its frames are not those of whole clips.
        """
        images = args[0]
        length = images.shape[1] if images.ndim == 5 else 1
        if length > 1 and self.frames is not None:
            if length % self.frames:
                raise OptionError(
                    f"adapter 'tsm' has frames={self.frames}, but samples have {length} frames, which is no "
                    "multiple of it"
                )
            length = self.frames
        self.seen = length


class Shift(LayerAdapter):
    """Moves some channels of a layer's input by a frame.

    Args:
        clips: Knows how many frames a clip has.
        part: One channel of so many is moved forward, and another one backward.
    """

    mergeable: ClassVar[bool] = False

    def __init__(self, clips: ClipLength, part: int) -> None:
        super().__init__()
        self.clips, self.part = clips, part

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        (frames,) = args
        return plain(shifted(frames, self.clips.seen, self.part))


class TSM(Adapter):
    """The temporal shift module (Lin et al., 2019): frames exchange channels with their neighbors.

    In front of the first convolution of each residual block, one part of the channels comes from the
    frame before, and another one from the frame after. It costs no parameters and nearly no time, and the
    shortcut keeps what the frame itself shows. All parameters of the backbone train as without
    adapters. On single images nothing changes.

    Args:
        part: One channel of so many comes from the frame before, and as many from the frame after.
        frames: Frames of a clip, necessary if videos have several clips; all frames of a sample if
            ``None``.
    """

    name: ClassVar[str] = "tsm"
    freezes_base: ClassVar[bool] = False

    def __init__(self, *, part: int = 8, frames: int | None = None) -> None:
        check_integer("part", part, least=2)
        if frames is not None:
            check_integer("frames", frames, least=2)
        self.part, self.frames = part, frames

    def apply(self, backbone: Backbone) -> Applied:
        if backbone.takes_clips:
            raise OptionError(
                f"adapter {self.name!r} is for backbones for images; {backbone.info.name} takes whole clips"
            )
        found = list(_first_layers(backbone))
        if not found:
            raise OptionError(
                f"adapter {self.name!r} finds no residual blocks of convolutions in {backbone.info.name}; "
                "take a ResNet, MobileNetV2 or EfficientNet"
            )
        clips = ClipLength(self.frames)
        backbone.register_forward_pre_hook(clips)
        for name in found:
            self.attach(backbone, name, Shift(clips, self.part))
        return Applied()


def shifted(frames: Tensor, length: int, part: int) -> Tensor:
    """Move some channels of frames to the next frame, and others to the one before.

    Args:
        frames: float (clips * length, C, H, W).
        length: Frames of a clip.
        part: One channel of so many is moved forward, and another one backward.

    Returns:
        Frames of the same shape. Where a clip has no frame before or after, channels are 0.

    Examples:
        >>> frames = torch.arange(1.0, 4.0).reshape(3, 1, 1, 1).expand(3, 4, 1, 1)
        >>> shifted(frames, 3, 4)[:, :, 0, 0].tolist()
        [[0.0, 2.0, 1.0, 1.0], [1.0, 3.0, 2.0, 2.0], [2.0, 0.0, 3.0, 3.0]]
    """
    count = frames.shape[1] // part
    if length == 1 or not count:
        return frames
    clips = frames.unflatten(0, (-1, length))
    # Parts are padded and joined, since writing into slices takes exporters minutes.
    before, after, same = clips.split([count, count, frames.shape[1] - 2 * count], dim=2)
    axes = (0, 0) * 3  # width, height, channels
    moved = (F.pad(before[:, :-1], (*axes, 1, 0)), F.pad(after[:, 1:], (*axes, 0, 1)), same)
    return torch.cat(moved, dim=2).flatten(0, 1)


def _first_layers(backbone: Backbone) -> Iterator[str]:
    """Find the first convolution of each residual block of a backbone."""
    modules = own_modules(backbone)
    for block, module in modules.items():
        if not _is_residual(module):
            continue
        inside = (name for name in modules if name.startswith(f"{block}."))
        layers = (name for name in inside if isinstance(modules[name], nn.Conv2d))
        first = next((n for n in layers if not n.startswith(_shortcuts(block))), None)
        if first is not None:
            yield first


def _is_residual(block: nn.Module) -> bool:
    for skip in SKIPS:
        if hasattr(block, skip):
            return bool(getattr(block, skip))
    has_shortcut = any(hasattr(block, shortcut) for shortcut in SHORTCUTS)
    return has_shortcut and any(isinstance(each, nn.Conv2d) for each in block.children())


def _shortcuts(block: str) -> tuple[str, ...]:
    return tuple(f"{block}.{shortcut}." for shortcut in SHORTCUTS)

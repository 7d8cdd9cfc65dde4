"""What exported files say about their input, and the kinds of input that they may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiongraft.inputs.clips import Clips
from visiongraft.inputs.contract import Inputs
from visiongraft.inputs.images import Images
from visiongraft.inputs.latents import Latents

KINDS: tuple[type[Inputs], ...] = (Images, Clips, Latents)


def described_inputs(entry: Mapping[str, Any]) -> Inputs | None:
    """Find out what a file takes.

    Args:
        entry: Its description of the input, as JSON values; without a layout, images.

    Returns:
        The kind of input; ``None`` if it is unknown, or its description is damaged.
    """
    layout = entry.get("layout", Images.layout)
    kind = next((kind for kind in KINDS if kind.layout == layout), None)
    return None if kind is None else kind.described(entry)

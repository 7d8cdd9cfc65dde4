"""Anchors for the network's fixed input size: the boxes that predictions are relative to.

They depend only on sizes, so they are computed once, by torchvision's generators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from visiongraft.plugins.detection.models.maps import Level
from visiongraft.preprocess import PreprocessConfig

_NAME = "anchors_"
LETTERBOX = "letterbox"


class Anchors(nn.Module):
    """Keep the anchors of each feature map, and add them to a head's outputs.

    Args:
        generator: torchvision's generator.
        levels: The feature maps.
        preprocess: Height and width of the network input, and whether images are letterboxed.
    """

    size: Tensor

    def __init__(
        self,
        generator: AnchorGenerator | DefaultBoxGenerator,
        levels: Sequence[Level],
        preprocess: PreprocessConfig,
    ) -> None:
        super().__init__()
        size = preprocess.size
        for i, anchors in enumerate(_generate(generator, levels, size)):
            self.register_buffer(f"{_NAME}{i}", anchors.clone(), persistent=False)
        self.register_buffer("size", torch.tensor(size), persistent=False)
        if preprocess.resize == LETTERBOX:
            self.register_buffer(LETTERBOX, torch.tensor(True), persistent=False)

    def outputs(self) -> dict[str, Tensor]:
        """Return what a loss and ``decode`` need.

        Returns:
            The anchors of each level, float32 (n, 4) in network pixels; ``size``, int64 (2,); and
            ``letterbox`` where images are letterboxed, see ``is_letterboxed``.
        """
        return dict(self.named_buffers())


def _generate(
    generator: AnchorGenerator | DefaultBoxGenerator,
    levels: Sequence[Level],
    size: tuple[int, int],
) -> Sequence[Tensor]:
    grids = [level.grid for level in levels]
    if isinstance(generator, AnchorGenerator):
        # The generator's forward computes the stride as the input size divided by the map size,
        # rounded down: too small if the one is not a multiple of the other.
        strides = [[int(level.stride)] * 2 for level in levels]
        anchors: Sequence[Tensor] = generator.grid_anchors(grids, strides)
        return anchors
    images = ImageList(torch.zeros(1, 3, *size), [size])
    per_cell = generator.num_anchors_per_location()
    counts = [n * h * w for n, (h, w) in zip(per_cell, grids, strict=True)]
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    split: Sequence[Tensor] = generator(images, maps)[0].split(counts)
    return split


def is_letterboxed(outputs: Mapping[str, Tensor]) -> bool:
    """Check from a head's outputs whether images keep their aspect ratio in the network's input."""
    return LETTERBOX in outputs


def level_anchors(outputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the anchors of each level from a head's outputs."""
    count = sum(name.startswith(_NAME) for name in outputs)
    return [outputs[f"{_NAME}{i}"] for i in range(count)]


def by_anchor(values: Tensor, columns: int) -> Tensor:
    """Rearrange the output of a convolution by anchor.

    Args:
        values: (N, anchors per cell * columns, H, W).
        columns: Numbers per anchor.

    Returns:
        (N, H * W * anchors per cell, columns), in the order of the anchors.
    """
    images, channels, height, width = values.shape
    count = height * width * (channels // columns)
    return values.permute(0, 2, 3, 1).reshape(images, count, columns)

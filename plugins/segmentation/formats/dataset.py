"""The result of reading any format: images with masks, and what the mask values mean."""

from __future__ import annotations

from dataclasses import dataclass

from visiongraft.data.samples import Samples
from visiongraft.plugins.segmentation.formats.masks import Color


@dataclass(frozen=True)
class MaskDataset:
    """A dataset of images with masks.

    Attributes:
        splits: ``"train"``, ``"validation"`` and ``"test"``, those that have images; their targets
            are masks for ``MaskReader``, or tuples of one mask per class. A mask file may not exist.
        names: Class names in the order of the mask values; empty if unknown.
        colors: One color per class for color masks.
        gray_colors: Whether the values of gray masks are colors, too, not indices of ``colors``.
        mask_per_class: Whether each class has its own mask, in the order of ``names``.
        files: Whether masks take time to read, as those in files do.
        drawn: Whether masks are drawn, so that their values are sure to be positions in ``names``.
        warnings: One line for each part of the data that was ignored.
    """

    splits: dict[str, Samples]
    names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
    gray_colors: bool = False
    mask_per_class: bool = False
    files: bool = False
    drawn: bool = False
    warnings: tuple[str, ...] = ()

"""The result of reading any format: images with masks, and what the mask values mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiongraft.data.annotations.image_files import read_header
from visiongraft.data.decode import printable
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import name_some
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


def undecided_orientation(dataset: MaskDataset) -> list[str]:
    """Warn about images that EXIF turns where nothing tells which pixels their masks lie on.

    Args:
        dataset: Images and masks.

    Returns:
        At most one line; none for images whose masks have another size than they: these are faults.
    """
    turned = [
        printable(path)
        for samples in dataset.splits.values()
        if isinstance(samples, FileSamples) and not dataset.drawn
        for path, mask in zip(samples.paths, samples.targets, strict=True)
        if _is_undecided(path, mask[0] if isinstance(mask, tuple) else mask)
    ]
    line = (
        f"{len(turned)} images are rotated or mirrored by EXIF, and their masks are not: these are "
        "taken to lie on the upright images; if they lie on the stored pixels, remove the EXIF "
        f"orientation: {name_some(turned)}"
    )
    return [line] if turned else []


def _is_undecided(path: Path, mask: Any) -> bool:
    header = read_header(path)
    if header is None or not header.turned or not isinstance(mask, Path):
        return False
    other = read_header(mask)
    return other is not None and other.size == header.size and not other.turned

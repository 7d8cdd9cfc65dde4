"""Read images with masks from every dataset format that segmentation supports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiongraft.data.images import DatasetSamples, check_dataset, load_item
from visiongraft.errors import DataError
from visiongraft.lookup import read_or_raise
from visiongraft.plugins.segmentation.formats.dataset import MaskDataset
from visiongraft.plugins.segmentation.formats.layouts import read_folder
from visiongraft.plugins.segmentation.formats.values import decide_gray_colors


def read_dataset(data: Any) -> MaskDataset:
    """Read images and masks, without decoding any image; only a few masks may be decoded.

    Args:
        data: A folder (see ``layouts.read_folder``); a map-style dataset of (image, mask); or
            whatever an installed reader of masks supports. The mask of a map-style dataset is an
            array or tensor (H, W), or (C, H, W) for one mask per class; a PIL image; or the path
            of a mask file.

    Returns:
        The dataset.

    Raises:
        DataError: There are no images, or the format is unknown.
    """
    try:
        if isinstance(data, (str, Path)):
            return decide_gray_colors(read_folder(Path(data)))
        return _from_dataset(data)
    except DataError as error:
        found = read_or_raise(data, "masks", error)
        per_class = _is_mask_per_class(next(iter(found.splits.values())).target(0))
        return MaskDataset(
            found.splits, found.names, mask_per_class=per_class, files=True, warnings=found.warnings
        )


def _from_dataset(dataset: Any) -> MaskDataset:
    check_dataset(dataset)
    samples = _MaskedDataset(dataset)
    per_class = _is_mask_per_class(samples.target(0))
    names = getattr(dataset, "classes", ())
    named = isinstance(names, (list, tuple)) and all(isinstance(n, str) and n for n in names)
    return MaskDataset({"train": samples}, tuple(names) if named else (), mask_per_class=per_class)


@dataclass(frozen=True)
class _MaskedDataset(DatasetSamples):
    """A dataset whose masks are loaded lazily: together they may not fit into memory."""

    def target(self, index: int) -> Any:
        return load_item(self.dataset, index, "(image, mask)")[1]


def _is_mask_per_class(mask: Any) -> bool:
    """Check whether a mask has one layer per class; (1, H, W) and (H, W, 1) are plain masks."""
    if isinstance(mask, list | tuple):
        return True
    shape: tuple[int, ...] = tuple(getattr(mask, "shape", ()))
    return len(shape) == 3 and 1 not in (shape[0], shape[2])

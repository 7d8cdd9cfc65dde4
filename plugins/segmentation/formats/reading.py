"""Read images with masks from every dataset format that segmentation supports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from visiongraft.data.annotations.cvat import find_cvat_files, is_cvat, read_cvat
from visiongraft.data.annotations.labelme import find_labelme_folders, read_labelme
from visiongraft.data.annotations.shapes import ShapeDataset
from visiongraft.data.decode import printable
from visiongraft.data.images import DatasetSamples, check_dataset, load_item
from visiongraft.data.listing import only_folder
from visiongraft.errors import DataError
from visiongraft.lookup.reading import read_or_raise
from visiongraft.plugins.segmentation.formats.dataset import MaskDataset
from visiongraft.plugins.segmentation.formats.layouts import contains_masks, read_folder
from visiongraft.plugins.segmentation.formats.shapes import to_masks
from visiongraft.plugins.segmentation.formats.values import decide_gray_colors


def read_dataset(data: Any) -> MaskDataset:
    """Read images and masks, without decoding any image; only a few masks may be decoded.

    Args:
        data: A path (see ``read_path``); a map-style dataset of (image, mask); or
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
            return read_path(Path(data))
        return _from_dataset(data)
    except DataError as error:
        found = read_or_raise(data, "masks", error)
        per_class = _is_mask_per_class(next(iter(found.splits.values())).target(0))
        return MaskDataset(
            found.splits, found.names, mask_per_class=per_class, files=True, warnings=found.warnings
        )


def read_path(path: Path) -> MaskDataset:
    """Read a folder of masks, or images with the files of LabelMe or CVAT.

    Args:
        path: A folder, or an XML file of CVAT; of a folder that contains only another folder, that.
            If a folder has masks too, these are read, and a warning says so.

    Returns:
        The dataset.

    Raises:
        DataError: The path does not exist, is in no known format, or is damaged.
    """
    if path.is_file() and path.suffix.lower() == ".xml" and is_cvat(path):
        return to_masks(read_cvat({path: None}))
    shapes = _find_shapes(path) if path.is_dir() else None
    if shapes is not None and not contains_masks(path):
        return to_masks(shapes[1]())
    inner = only_folder(path) if path.is_dir() else None
    if inner is not None and not contains_masks(path):
        return read_path(inner)
    found = decide_gray_colors(read_folder(path))
    if shapes is None:
        return found
    line = f"{printable(path)} is read from its masks; its data in the format of {shapes[0]} is skipped"
    return replace(found, warnings=(*found.warnings, line))


def _find_shapes(folder: Path) -> tuple[str, Callable[[], ShapeDataset]] | None:
    """Find the files of a tool; return its name, and a function that reads them."""
    cvat = find_cvat_files(folder)
    if cvat:
        return "CVAT", partial(read_cvat, cvat)
    warnings: list[str] = []
    labelme = find_labelme_folders(folder, warnings)
    return ("LabelMe", partial(read_labelme, labelme, warnings)) if labelme else None


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

"""Images with masks, out of every form of data that segmentation reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from visiongraft.data.images import DatasetSamples
from visiongraft.data.readers import read_data
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import DataError, type_and_message
from visiongraft.plugins.segmentation.formats.layouts import read_folder
from visiongraft.plugins.segmentation.formats.masks import Color


@dataclass(frozen=True)
class MaskDataset:
    """A dataset as it was found.

    Attributes:
        splits: Images by ``"train"``, ``"validation"`` and ``"test"``, those that the data have;
            their targets are masks that ``MaskReader`` reads.
        names: Class names in the order of the values in the masks; empty if the data name none.
        colors: One color per class where masks are in color.
        several: Whether each class has a mask of its own, in the order of ``names``.
        files: Whether masks are files, which take time to read.
        warnings: One line on each thing that was passed over.
    """

    splits: dict[str, Samples]
    names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
    several: bool = False
    files: bool = False
    warnings: tuple[str, ...] = ()


def find_source(data: Any) -> MaskDataset:
    """Find images and masks.

    Args:
        data: A folder (see ``layouts.read_folder``), a map-style dataset of (image, mask), or what
            an installed reader of masks reads. A dataset's mask is an array or tensor (H, W), of
            several independent masks (C, H, W), a PIL image, or the path of a mask file.

    Returns:
        What was found.

    Raises:
        DataError: There is nothing, or it is in no known form.
    """
    try:
        return _read_path(Path(data)) if isinstance(data, (str, Path)) else _read_dataset(data)
    except DataError:
        found = read_data(data, "masks")  # asked last: installing a reader changes no dataset
        if found is None:
            raise
        parts = {part: samples for part, samples in found.splits.items() if len(samples)}
        several = _is_several(next(iter(parts.values())).target(0))
        return MaskDataset(parts, found.names, several=several, files=True, warnings=found.warnings)


def _read_path(path: Path) -> MaskDataset:
    found = read_folder(path)
    parts: dict[str, Samples] = {}
    for part, pairs in found.splits.items():
        if pairs:
            images, masks = zip(*pairs, strict=True)
            parts[part] = FileSamples(images, masks)
    return MaskDataset(parts, found.names, found.colors, found.several, True, found.warnings)


def _read_dataset(dataset: Any) -> MaskDataset:
    kind = type(dataset).__name__
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(f"data is a folder or a dataset with __len__ and __getitem__, not {kind}")
    if len(dataset) == 0:
        raise DataError(f"the dataset ({kind}) is empty")
    masks = _Masks(dataset)
    several = _is_several(masks[0])
    names = getattr(dataset, "classes", ())
    named = isinstance(names, (list, tuple)) and all(isinstance(n, str) and n for n in names)
    parts: dict[str, Samples] = {"train": DatasetSamples(dataset, masks)}
    return MaskDataset(parts, tuple(names) if named else (), several=several)


@dataclass(frozen=True)
class _Masks(Sequence[Any]):
    """The masks of a dataset, got one by one: all at once may not fit into memory."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        try:
            item = self.dataset[index]
        except Exception as error:  # a stranger's dataset may raise anything
            cause = type_and_message(error)
            raise DataError(f"item {index}: the dataset raised {cause}") from error
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            kind = type(item).__name__
            raise DataError(f"item {index}: a dataset gives (image, mask), not {kind}")
        return item[1]


def _is_several(mask: Any) -> bool:
    """Say whether a mask has layers; a single one, (1, H, W) or (H, W, 1), is a plain mask."""
    if isinstance(mask, list | tuple):
        return True
    shape: tuple[int, ...] = tuple(getattr(mask, "shape", ()))
    return len(shape) == 3 and 1 not in (shape[0], shape[2])

"""Images without targets, for training steps that use some beside the labeled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from visiongraft.data.decode import printable
from visiongraft.data.images import check_dataset, image_array
from visiongraft.data.listing import list_images
from visiongraft.data.samples import FileSamples, Samples, WrappedSamples
from visiongraft.errors import DataError, type_and_message


def unlabeled_samples(data: Any) -> Samples:
    """Find images whose targets, if they have any, are not used.

    Args:
        data: A folder with images at any depth, an image file, a sequence of image files, or a
            map-style dataset of images or of (image, target) pairs.

    Returns:
        Samples whose targets are ``None``.

    Raises:
        DataError: There are no images, a file is missing, or ``data`` is of another kind.
    """
    if isinstance(data, Samples):
        return _WithoutTargets(data)
    if isinstance(data, str | Path):
        path = Path(data)
        files = list_images(path) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{printable(path)} contains no images")
        return _files(files)
    if isinstance(data, Sequence) and data and all(isinstance(one, str | Path) for one in data):
        return _files([Path(one) for one in data])
    check_dataset(data)
    return _DatasetImages(data)


def _files(paths: list[Path]) -> FileSamples:
    for path in paths:
        if not path.is_file():
            raise DataError(f"{printable(path)} does not exist or is not a file")
    return FileSamples(paths, [None] * len(paths))


@dataclass(frozen=True)
class _WithoutTargets(WrappedSamples):
    def target(self, index: int) -> None:
        return None

    def problem(self, index: int, height: int, width: int) -> str:
        return ""


@dataclass(frozen=True)
class _DatasetImages(Samples):
    """The images of a map-style dataset, loaded one by one."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        return f"item {index}"

    def target(self, index: int) -> None:
        return None

    def load(self, index: int, channels: int = 3) -> NDArray[Any]:
        try:
            item = self.dataset[index]
        except Exception as error:  # a third-party dataset may raise any error
            cause = type_and_message(error)
            raise DataError(f"item {index}: the dataset raised {cause}") from error
        image = item[0] if isinstance(item, tuple) else item
        return image_array(image, self.name(index), channels)

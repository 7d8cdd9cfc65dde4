"""Find pairs of images: side by side in one file, or in two folders by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import decode_file, printable
from visiongraft.data.images import DatasetSamples, check_dataset, image_array, load_item
from visiongraft.data.listing import (
    SPLIT_WORDS,
    FileIndex,
    folders_named,
    index_files,
    list_images,
    only_folder,
    subfolders,
)
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import DataError, name_some

SIDES = (("a", "b"), ("input", "target"), ("inputs", "targets"))  # lowercase names of two folders
FORM = "(image, image)"
_HINT = (
    "pass a folder of images that hold input and target side by side, or folders A and B with images "
    "of the same names"
)


def read_pairs(data: Any, reverse: bool = False) -> dict[str, Samples]:
    """Find pairs of images, without decoding any.

    Args:
        data: A folder (see ``read_folder``), or a map-style dataset of (image, image).
        reverse: Whether the second image of a pair is the input.

    Returns:
        Samples by ``"train"``, ``"validation"`` and ``"test"``, those that there are. The target of a
        sample is anything that ``image_array`` accepts.

    Raises:
        DataError: There are no pairs, or an image has no counterpart.
    """
    if isinstance(data, (str, Path)):
        return read_folder(Path(data), reverse)
    check_dataset(data)
    return {"train": PairDataset(data, reverse=reverse)}


def read_folder(root: Path, reverse: bool = False) -> dict[str, Samples]:
    """Find pairs of images in a folder.

    Args:
        root: Images with two halves; or folders ``A`` and ``B`` (also ``input`` and ``target``) with
            images of the same names. Folders ``train``, ``val`` and ``test`` may be around these or in
            them, also as ``trainA`` and ``trainB``; of a folder that contains only another folder, that.
        reverse: Whether the right half, or the second folder, is the input.

    Returns:
        As ``read_pairs``.

    Raises:
        DataError: There are no images, or one has no counterpart.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{printable(root)} {problem}; {_HINT}")
    sides = _sides(root, "")
    if sides is not None:
        return _split(_paired(*sides, reverse))
    splits = {}
    for split, words in SPLIT_WORDS.items():
        around = [_sides(folder, "") for folder in folders_named(root, words)]
        joined = [_sides(root, word) for word in words]
        found = [pair for pair in (*around, *joined) if pair is not None]
        if found:
            splits[split] = _paired(*found[0], reverse)
    if splits:
        return {split: _samples(pairs) for split, pairs in splits.items()}
    inner = only_folder(root)
    if inner is not None and not any(inner.name.lower() in words for words in SPLIT_WORDS.values()):
        return read_folder(inner, reverse)
    return _side_by_side(root, reverse)


def in_folders(root: Path) -> bool:
    """Check whether the pairs of a folder are in two folders, not side by side in one file.

    Raises:
        DataError: There are no pairs, see ``read_folder``.
    """
    return not any(isinstance(split, SideBySide) for split in read_folder(root).values())


@dataclass(frozen=True)
class PairDataset(DatasetSamples):
    """A map-style dataset of (image, image), loaded lazily.

    Attributes:
        reverse: Whether the second image is the input.
    """

    reverse: bool = False

    def target(self, index: int) -> Any:
        """Load the target."""
        return load_item(self.dataset, index, FORM)[0 if self.reverse else 1]

    def load(self, index: int, channels: int = 3) -> NDArray[np.uint8]:
        """Load the input."""
        image = load_item(self.dataset, index, FORM)[1 if self.reverse else 0]
        return image_array(image, self.name(index), channels)


@dataclass(frozen=True)
class SideBySide(Samples):
    """Images that hold two images side by side, as those of pix2pix.

    Attributes:
        paths: The files.
        reverse: Whether the right half is the input.
    """

    paths: tuple[Path, ...]
    reverse: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Return the path."""
        return printable(self.paths[index])

    def load(self, index: int, channels: int = 3) -> NDArray[np.uint8]:
        """Decode the half that is the input."""
        return self._half(index, channels, right=self.reverse)

    def target(self, index: int) -> NDArray[np.uint8]:
        """Decode the other half."""
        return self._half(index, 3, right=not self.reverse)

    def subset(self, indices: Sequence[int]) -> SideBySide:
        """Return some of the files, in the given order."""
        return SideBySide(tuple(self.paths[i] for i in indices), self.reverse)

    def _half(self, index: int, channels: int, right: bool) -> NDArray[np.uint8]:
        whole = decode_file(self.paths[index], channels)
        width = whole.shape[1]
        if width % 2:
            raise DataError(
                f"{self.name(index)}: is {width} pixels wide, so it does not hold two images side by side"
            )
        half = whole[:, width // 2 :] if right else whole[:, : width // 2]
        return np.ascontiguousarray(half)


Pairs = dict[str, tuple[Path, Path]]  # input and target by their common name


def _sides(folder: Path, prefix: str) -> tuple[Path, Path] | None:
    """Find two folders of images whose names begin with a prefix, such as ``train``."""
    named = {path.name.lower(): path for path in subfolders(folder)}
    for names in SIDES:
        found = [named.get(prefix + name) for name in names]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
        if any(found):
            one, other = names if found[0] is not None else reversed(names)
            raise DataError(
                f"{printable(folder)} contains a folder {prefix + one!r} but none called {prefix + other!r}"
            )
    return None


def _paired(first: Path, second: Path, reverse: bool) -> Pairs:
    """Pair the images of two folders by their relative paths without suffix."""
    indexed = [index_files(folder, list_images(folder)) for folder in (first, second)]
    lost = [sorted(one.files.keys() - other.files.keys()) for one, other in _both_ways(indexed)]
    if any(lost):
        named = " and ".join(
            f"{len(keys)} of {printable(index.folder)} ({name_some(map(printable, keys))})"
            for index, keys in zip(indexed, lost, strict=True)
            if keys
        )
        raise DataError(
            f"images have no counterpart of the same name in the other folder: {named}; add or remove them"
        )
    if not indexed[0].files:
        raise DataError(f"{printable(first)} contains no images")
    inputs, targets = (index.files for index in (reversed(indexed) if reverse else indexed))
    return {key: (inputs[key], targets[key]) for key in sorted(inputs)}


def _both_ways(indexed: Sequence[FileIndex]) -> Iterable[tuple[FileIndex, FileIndex]]:
    return (indexed[0], indexed[1]), (indexed[1], indexed[0])


def _split(pairs: Pairs) -> dict[str, Samples]:
    """Divide pairs by the split that their topmost folder means; those in none are for training."""
    found: dict[str, Pairs] = {}
    for key, pair in pairs.items():
        found.setdefault(_split_of(key), {})[key] = pair
    return {split: _samples(each) for split, each in found.items()}


def _samples(pairs: Pairs) -> FileSamples:
    return FileSamples([one for one, _ in pairs.values()], [other for _, other in pairs.values()])


def _side_by_side(root: Path, reverse: bool) -> dict[str, Samples]:
    found: dict[str, list[Path]] = {}
    for path in list_images(root):
        found.setdefault(_split_of(path.relative_to(root).as_posix()), []).append(path)
    if not found:
        raise DataError(f"{printable(root)} contains no images; {_HINT}")
    return {split: SideBySide(tuple(paths), reverse) for split, paths in found.items()}


def _split_of(name: str) -> str:
    """Return the split that the topmost folder of a relative path means, ``"train"`` if none."""
    top = name.split("/")[0].lower() if "/" in name else ""
    return next((split for split, words in SPLIT_WORDS.items() if top in words), "train")

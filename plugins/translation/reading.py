"""Find images of two kinds: as pairs side by side in one file or by name, or unpaired in two folders."""

from __future__ import annotations

import logging
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

log = logging.getLogger("visiongraft")

SIDES = (("a", "b"), ("input", "target"), ("inputs", "targets"))  # lowercase names of two folders
FORM = "(image, image)"
_HINT = (
    "pass a folder of images that hold input and target side by side, or folders A and B with images "
    "of the same names"
)
_UNPAIRED_HINT = "pass a folder with folders A and B, or trainA and trainB, of images of two kinds"


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
    found = _sides_of_splits(root)
    if "" in found:
        return _split(_paired(*found[""], reverse))
    if found:
        return {split: _samples(_paired(*sides, reverse)) for split, sides in found.items()}
    inner = _inner(root)
    return read_folder(inner, reverse) if inner is not None else _side_by_side(root, reverse)


def find_unpaired(root: Path) -> dict[str, tuple[list[Path], list[Path]]]:
    """Find images of two kinds in a folder, which need not have the same names.

    Args:
        root: Folders ``A`` and ``B``, with splits as for ``read_folder``.

    Returns:
        Files in ``A`` and files in ``B`` by ``"train"``, ``"validation"`` and ``"test"``, those that
        there are.

    Raises:
        DataError: There are no such folders, or one has no images.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{printable(root)} {problem}; {_UNPAIRED_HINT}")
    sides = _sides_of_splits(root)
    if not sides:
        inner = _inner(root)
        if inner is None:
            raise DataError(
                f"{printable(root)} contains no folders A and B of images; {_UNPAIRED_HINT}"
            )
        return find_unpaired(inner)
    found: dict[str, tuple[list[Path], list[Path]]] = {}
    for split, folders in sides.items():
        for side, folder in enumerate(folders):
            paths = list_images(folder)
            if not paths:
                raise DataError(f"{printable(folder)} contains no images; {_UNPAIRED_HINT}")
            for path in paths:
                named = split or _split_of(path.relative_to(folder).as_posix())
                found.setdefault(named, ([], []))[side].append(path)
    for split, (first, second) in found.items():
        if not first or not second:
            lacking, other = ("A", "B") if not first else ("B", "A")
            raise DataError(
                f"{printable(root)} has images for {split} in folder {other}, but none in folder {lacking}"
            )
    return found


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


def _sides_of_splits(root: Path) -> dict[str, tuple[Path, Path]]:
    """Find the two folders of each split; those that are in no split by an empty name."""
    sides = _sides(root, "")
    if sides is not None:
        return {"": sides}
    found = {}
    for split, words in SPLIT_WORDS.items():
        around = [_sides(folder, "") for folder in folders_named(root, words)]
        joined = [_sides(root, word) for word in words]
        pairs = [pair for pair in (*around, *joined) if pair is not None]
        if pairs:
            found[split] = pairs[0]
    return found


def _inner(root: Path) -> Path | None:
    """Return the folder of a folder that contains only another one, which is no split."""
    inner = only_folder(root)
    splits = {word for words in SPLIT_WORDS.values() for word in words}
    return inner if inner is not None and inner.name.lower() not in splits else None


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
            f"images have no counterpart of the same name in the other folder: {named}; add or remove "
            "them, or use task 'unpaired_translation', which needs no pairs"
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
    left, right = ("target", "input") if reverse else ("input", "target")
    log.info(
        "%d images of %s are read as pairs side by side: %s on the left, %s on the right",
        sum(map(len, found.values())),
        printable(root),
        left,
        right,
    )
    return {split: SideBySide(tuple(paths), reverse) for split, paths in found.items()}


def _split_of(name: str) -> str:
    """Return the split that the topmost folder of a relative path means, ``"train"`` if none."""
    top = name.split("/")[0].lower() if "/" in name else ""
    return next((split for split, words in SPLIT_WORDS.items() if top in words), "train")

"""Read folders of images and masks: pairs of files by split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from visiongraft.data.decode import printable
from visiongraft.data.labels import class_name
from visiongraft.data.listing import (
    SPLIT_WORDS,
    FileIndex,
    index_files,
    list_images,
    subfolders,
)
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.segmentation.formats.class_files import read_classes
from visiongraft.plugins.segmentation.formats.dataset import MaskDataset
from visiongraft.plugins.segmentation.formats.folders import (
    MASK_SUFFIXES,
    FolderPair,
    find_folders,
    separate_masks,
)
from visiongraft.plugins.segmentation.formats.masks import Color
from visiongraft.plugins.segmentation.formats.splits import split_images

# fmt: off
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
    "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
    "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on

VOC_IMAGE = re.compile(r"\d{4}_\d{6}|\d{6}")
SINGLE_CLASS_PARENTS = ("masks", "SegmentationClass")  # may contain a single class folder


def read_folder(root: Path) -> MaskDataset:
    """Read a folder of images and masks.

    Args:
        root: The folder; see ``folders.find_folders`` for the layouts.

    Returns:
        The dataset, without opening any image or mask.

    Raises:
        DataError: The folder is missing, of an unknown layout, or contains no images.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{printable(root)} {problem}; {_HINT}")
    warnings: list[str] = []
    pairs = find_folders(root, warnings)
    if not pairs:
        raise DataError(f"{printable(root)} contains no folders images and masks; {_HINT}")
    return _read(root, pairs, warnings)


def contains_masks(root: Path) -> bool:
    """Check whether a folder contains folders of images and masks, and masks in them.

    Args:
        root: The folder.

    Raises:
        DataError: See ``folders.find_folders``.
    """
    return any(pair.flat or list_images(pair.masks) for pair in find_folders(root, []))


_HINT = (
    "pass a folder with images/ and masks/, with train/ and train_labels/, in the layout of Pascal "
    "VOC, or of images with the files of LabelMe (.json) or CVAT (.xml)"
)


def _read(root: Path, pairs: Sequence[FolderPair], warnings: list[str]) -> MaskDataset:
    names, colors = _read_class_names(root, pairs)
    folders = sorted({class_name(f.name) for pair in pairs for f in _class_folders(pair)})
    if folders and names and set(names) != set(folders):
        raise DataError(
            f"the class files name {name_some(names)}, but the folders in "
            f"{printable(pairs[0].masks)} are {name_some(folders)}"
        )
    names = names or tuple(folders)
    splits: dict[str, Samples] = {}
    for pair in pairs:
        images, masks = _index_files(pair)
        by_class = _index_class_folders(pair, names) if folders else [masks]
        if not any(masks.files for masks in by_class):
            raise DataError(f"{printable(pair.masks)} contains no masks")
        splits.update(_match(pair, images, by_class, bool(folders), warnings))
    if not names and pairs[0].voc:
        names = VOC_CLASSES
        _warn_of_voc_names(pairs[0], warnings)
    return MaskDataset(
        splits,
        names,
        colors,
        mask_per_class=bool(folders),
        files=True,
        warnings=tuple(warnings),
    )


def _warn_of_voc_names(pair: FolderPair, warnings: list[str]) -> None:
    """Warn that names are assumed, unless the images are named as those of Pascal VOC."""
    if not all(VOC_IMAGE.fullmatch(path.stem) for path in list_images(pair.images)):
        warnings.append(
            f"{printable(pair.root)} has the layout of Pascal VOC and no list of classes, so Pascal "
            "VOC's own 21 classes are assumed; if the masks have others, add classes.txt with one "
            "name per line in the order of the mask values"
        )


def _read_class_names(
    root: Path, pairs: Sequence[FolderPair]
) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Read the class files in the dataset's folder, otherwise those in the folders of splits."""
    found = read_classes(root)
    if found[0]:
        return found
    by_folder = {pair.root: read_classes(pair.root) for pair in pairs}
    first = pairs[0].root
    for folder, classes in by_folder.items():
        if classes != by_folder[first]:
            raise DataError(
                f"{printable(first)} and {printable(folder)} contain different classes; keep one "
                f"of the files, in {printable(root)}"
            )
    return by_folder[first]


def _index_class_folders(pair: FolderPair, names: Sequence[str]) -> list[FileIndex]:
    folders = {class_name(folder.name): folder for folder in _class_folders(pair)}
    return [
        index_files(folder, list_images(folder)) if folder.is_dir() else index_files(folder, [])
        for folder in (folders.get(name, pair.masks / name) for name in names)
    ]


def _index_files(pair: FolderPair) -> tuple[FileIndex, FileIndex]:
    if pair.flat:
        images, masks = separate_masks(pair.images)
    else:
        images, masks = list_images(pair.images), list_images(pair.masks)
        if not images:
            raise DataError(f"{printable(pair.images)} contains no images")
    return index_files(pair.images, images), index_files(pair.masks, masks)


def _match(
    pair: FolderPair,
    images: FileIndex,
    by_class: Sequence[FileIndex],
    mask_per_class: bool,
    warnings: list[str],
) -> dict[str, Samples]:
    """Match images with masks, by split."""
    lists = pair.root / "ImageSets" / "Segmentation" if pair.voc else pair.root
    if pair.split is None:
        keys = split_images(images, lists, warnings)
    else:
        keys = {pair.split: list(images.files)}
    suffix = ""
    if pair.flat:  # expect missing masks under the suffix of the others
        names = by_class[0].files
        suffix = next(s for s in MASK_SUFFIXES[1:] if any(name.endswith(s) for name in names))
    splits: dict[str, Samples] = {}
    used: list[set[str]] = [set() for _ in by_class]
    for split, listed in keys.items():
        files = [images.files.get(key, pair.images / key) for key in listed]
        columns = [
            [_mask(masks, key, own, suffix) for key in listed]
            for masks, own in zip(by_class, used, strict=True)
        ]
        if listed:
            targets = list(zip(*columns, strict=True)) if mask_per_class else columns[0]
            splits[split] = FileSamples(files, targets)
    _warn_of_unused(by_class, used, images, keys, warnings)
    return splits


def _mask(masks: FileIndex, key: str, used: set[str], suffix: str) -> Path:
    """Find the mask of an image; if there is none, return the path it should have."""
    found = masks.find(key, MASK_SUFFIXES)
    if found is None:
        return masks.folder / f"{key}{suffix}.png"
    used.add(found)
    return masks.files[found]


def _class_folders(pair: FolderPair) -> list[Path]:
    """Find mask folders per class: those that neither mirror image folders nor are splits."""
    if pair.flat:
        return []
    words = {word for names in SPLIT_WORDS.values() for word in names}
    mirrored = {path.name for path in subfolders(pair.images)}
    found = [
        path
        for path in subfolders(pair.masks)
        if path.name.lower() not in words and path.name not in mirrored
    ]
    if pair.masks.name in SINGLE_CLASS_PARENTS:
        return found
    with_masks = [path for path in found if list_images(path)]
    return with_masks if len(with_masks) > 1 else []  # a single one is just a nested folder


def _warn_of_unused(
    by_class: Sequence[FileIndex],
    used: Sequence[set[str]],
    images: FileIndex,
    keys: dict[str, list[str]],
    warnings: list[str],
) -> None:
    ignored = set(images.files).difference(*keys.values())
    for masks, seen in zip(by_class, used, strict=True):
        left = sorted(key for key in masks.files if key not in seen and key not in ignored)
        if left:
            warnings.append(
                f"{len(left)} masks in {printable(masks.folder)} belong to no image: "
                f"{name_some(left)}"
            )

"""Read image folders with one folder per class, with or without folders for the splits above."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.data.listing import (
    IMAGE_FOLDERS,
    SPLIT_WORDS,
    entries,
    files_below,
    is_image,
    list_images,
    only_folder,
    subfolders,
)
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some


@dataclass(frozen=True)
class LabeledSplits:
    """The splits of a labeled dataset.

    Attributes:
        splits: Files of ``"train"``, ``"validation"`` and ``"test"``, as far as they exist; a
            dataset without splits is all ``"train"``. A target is a tuple of class names: one, or
            any number in a multi-label dataset.
        names: All class names in order, including those of empty folders.
        warnings: One line for each thing that was skipped.
    """

    splits: dict[str, FileSamples]
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def read_folder(root: Path) -> LabeledSplits:
    """Read folders of images, one folder per class.

    Args:
        root: A folder that contains one folder per class, or ``train``, ``val`` and ``test``
            folders that do, or only another such folder. Folders below the folder of a class
            belong to that class. Hidden files are skipped.

    Returns:
        Files by split, sorted by path, so that they do not depend on the file system's order.

    Raises:
        DataError: The folder does not exist, or no class folder contains an image.
    """
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{printable(root)} {found}; pass a folder with one folder per class")
    inner = only_folder(root)
    if inner is not None and _split_folders(inner, []) != {"train": inner}:
        return read_folder(inner)
    warnings: list[str] = []
    splits: dict[str, FileSamples] = {}
    names: set[str] = set()
    for split, folder in _split_folders(root, warnings).items():
        class_folders = subfolders(folder)
        names.update(_class_name(each) for each in class_folders)
        splits[split] = _read_split(folder, class_folders, warnings)
    if not any(len(files) for files in splits.values()):
        raise DataError(_nothing_found(root))
    return LabeledSplits(splits, tuple(sorted(names)), tuple(warnings))


def has_class_folders(root: Path) -> bool:
    """Check whether a folder contains one folder per class, or splits that do.

    Args:
        root: The folder.

    Returns:
        False if its images are in the folder itself, or in folders that are only named after
        images or splits, such as ``images`` or ``train``.
    """
    if _split_folders(root, []) != {"train": root}:
        return True
    words = {*IMAGE_FOLDERS, *(word for names in SPLIT_WORDS.values() for word in names)}
    return any(f.name.lower() not in words for f in subfolders(root) if list_images(f))


def _split_folders(root: Path, warnings: list[str]) -> dict[str, Path]:
    """Find the folders of the splits; a dataset without splits is all training."""
    folders = {folder.name.lower(): folder for folder in subfolders(root)}
    found: dict[str, Path] = {}
    for split, words in SPLIT_WORDS.items():
        folder = next((folders[word] for word in words if word in folders), None)
        if folder is not None and subfolders(folder):
            found[split] = folder
    others = [folder for folder in subfolders(root) if folder not in found.values()]
    if not found or (len(found) == 1 and any(list_images(folder) for folder in others)):
        return {"train": root}  # a class may happen to be named like a split
    if others:
        names = ", ".join(f.name for f in found.values())
        warnings.append(
            f"{printable(root)} is divided into splits ({names}); "
            f"skipped: {name_some(printable(f.name) for f in others)}"
        )
    return found


def _read_split(split: Path, class_folders: list[Path], warnings: list[str]) -> FileSamples:
    paths: list[Path] = []
    labels: list[tuple[str, ...]] = []
    others: list[Path] = []
    for folder in class_folders:
        files = list(files_below(folder))
        images = [path for path in files if is_image(path)]
        paths += images
        labels += [(_class_name(folder),)] * len(images)
        others += [path for path in files if not is_image(path)]
        if not images:
            warnings.append(f"class {_class_name(folder)!r} has no images in {printable(split)}")
    loose = [path for path in entries(split) if path.is_file()]
    for files, reason in ((others, "do not have an image suffix"), (loose, "have no label")):
        if files:
            named = name_some(printable(path.name) for path in files)
            warnings.append(
                f"{len(files)} files in {printable(split)} {reason} and are skipped: {named}"
            )
    return FileSamples(tuple(paths), tuple(labels))


def _class_name(folder: Path) -> str:
    return printable(folder.name)


def _nothing_found(root: Path) -> str:
    name = printable(root)
    loose = [path for path in entries(root) if is_image(path)]
    if loose:
        return (
            f"{name} contains {len(loose)} images but no folder per class; sort them into "
            "CLASS/image.jpg, or pass a CSV file with the columns path and label"
        )
    suffixes = sorted({path.suffix.lower() or path.name for path in files_below(root)})
    if suffixes:
        return (
            f"{name} contains no images, only {name_some(map(printable, suffixes))}; the supported "
            f"suffixes are {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return f"{name} contains no images; pass a folder like {printable(root.name)}/CLASS/image.jpg"

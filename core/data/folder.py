"""Read image folders with one folder per class, with or without folders for the splits above."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.data.labels import class_name
from visiongraft.data.listing import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    SPLIT_WORDS,
    entries,
    files_below,
    is_image,
    is_run_folder,
    list_images,
    only_folder,
    subfolders,
)
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some

_AFFIXES = re.compile(r"[ _.-]*(set|dataset|data|images|imgs|img|split)?[ _.-]*\d*$")
_FOLD = re.compile(r"^(fold|split)[ _.-]*\d+$")  # of cross-validation


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
            belong to that class. Hidden files and the folders of runs are skipped. Folders whose
            names are the same in another Unicode form are one class.

    Returns:
        Files by split, sorted by path, so that they do not depend on the file system's order.

    Raises:
        DataError: The folder does not exist, no class folder contains an image, or the folders
            with images are named like splits, images or masks and not like classes.
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
        class_folders = _class_folders(folder, warnings)
        names.update(class_name(each.name) for each in class_folders)
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
    return any(
        not _is_no_class(f) for f in subfolders(root) if list_images(f) and not _contains_run(f)
    )


def _split_folders(root: Path, warnings: list[str]) -> dict[str, Path]:
    """Find the folders of the splits; a dataset without splits is all training."""
    folders = {folder.name.lower(): folder for folder in subfolders(root)}
    found: dict[str, Path] = {}
    for split, words in SPLIT_WORDS.items():
        named = [folders[word] for word in words if word in folders]
        similar = [folder for folder in folders.values() if _split_of(folder) == split]
        # Of several such as train1 and train2, none is the training split.
        folder = named[0] if named else similar[0] if len(similar) == 1 else None
        if folder is not None and subfolders(folder):
            inner = only_folder(folder)  # archives are unpacked to training_set/training_set
            found[split] = inner if inner is not None and _split_of(inner) == split else folder
    parents = {folder if folder.parent == root else folder.parent for folder in found.values()}
    others = [folder for folder in subfolders(root) if folder not in parents]
    if not found or (len(found) == 1 and any(list_images(folder) for folder in others)):
        return {"train": root}  # a class may happen to be named like a split
    if others:
        names = ", ".join(f.name for f in found.values())
        warnings.append(
            f"{printable(root)} is divided into splits ({names}); "
            f"skipped: {name_some(printable(f.name) for f in others)}"
        )
    return found


def _class_folders(split: Path, warnings: list[str]) -> list[Path]:
    """List the folders of classes; refuse folders that are not meant to be classes."""
    found: list[Path] = []
    runs: list[Path] = []
    for folder in subfolders(split):
        (runs if _contains_run(folder) else found).append(folder)
    if runs:
        named = name_some(printable(f.name) for f in runs)
        warnings.append(
            f"{printable(split)} contains the folders of runs, which are skipped: {named}"
        )
    used = [folder for folder in found if list_images(folder)]
    no_classes = [folder for folder in used if _is_no_class(folder)]
    named = name_some(printable(f.name) for f in no_classes)
    if no_classes == used and any(len(used) > 1 or not _is_split(f) for f in used):
        raise DataError(
            f"{printable(split)}: the folders {named} contain images, but are not named like "
            "classes; sort the images into CLASS/image.jpg, or pass a table of images and labels"
        )
    if len(no_classes) > 1 or any(map(_inner_names, no_classes)):
        warnings.append(
            f"{printable(split)}: the folders {named} are read as classes; move them if they are not"
        )
    inner = set(map(_inner_names, used))
    if len(inner) == 1 and "" not in inner:
        warnings.append(
            f"{printable(split)}: the folders that are read as classes contain no images but "
            f"folders of the same names, {inner.pop()}; if these are the classes, move them up"
        )
    same: dict[str, list[Path]] = {}
    for folder in found:
        same.setdefault(class_name(folder.name), []).append(folder)
    warnings += [
        f"{printable(split)} contains {len(folders)} folders of class {name!r}, whose names differ "
        "in their Unicode form only; they are read as one class"
        for name, folders in same.items()
        if len(folders) > 1
    ]
    return found


def _contains_run(folder: Path) -> bool:
    """Check for a run folder, or one that contains nothing but run folders."""
    if is_run_folder(folder):
        return True
    return not list_images(folder) and any(is_run_folder(inner) for inner in subfolders(folder))


def _inner_names(folder: Path) -> str:
    """Name the folders in a folder whose images are all in several folders below it."""
    inner = [f.name for f in subfolders(folder) if list_images(f)]
    direct = any(is_image(path) for path in entries(folder))
    return "" if direct or len(inner) < 2 else name_some(map(printable, sorted(inner)))


def _is_no_class(folder: Path) -> bool:
    name = folder.name.lower()
    return name in (*IMAGE_FOLDERS, *MASK_FOLDERS) or _is_split(folder) or bool(_FOLD.search(name))


def _is_split(folder: Path) -> bool:
    return _split_of(folder) is not None


def _split_of(folder: Path) -> str | None:
    """Return the split that a folder such as ``train``, ``Training_set`` or ``val2017`` is named after."""
    word = _AFFIXES.sub("", folder.name.lower())
    return next((split for split, words in SPLIT_WORDS.items() if word in words), None)


def _read_split(split: Path, class_folders: list[Path], warnings: list[str]) -> FileSamples:
    paths: list[Path] = []
    labels: list[tuple[str, ...]] = []
    others: list[Path] = []
    for folder in class_folders:
        files = list(files_below(folder))
        images = [path for path in files if is_image(path)]
        paths += images
        labels += [(class_name(folder.name),)] * len(images)
        others += [path for path in files if not is_image(path)]
        if not images:
            warnings.append(
                f"class {class_name(folder.name)!r} has no images in {printable(split)}"
            )
    loose = [path for path in entries(split) if path.is_file()]
    for files, reason in ((others, "do not have an image suffix"), (loose, "have no label")):
        if files:
            named = name_some(printable(path.name) for path in files)
            warnings.append(
                f"{len(files)} files in {printable(split)} {reason} and are skipped: {named}"
            )
    return FileSamples(tuple(paths), tuple(labels))


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

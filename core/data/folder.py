"""One folder per label: the layout of ImageFolder, with or without train and validation parts."""

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
from visiongraft.errors import DataError, name_some


@dataclass(frozen=True)
class LabeledFiles:
    """Files with their label names, before the names become ids.

    Attributes:
        paths: Image files.
        labels: The label names of each file; one each, or any number in a table of several.
    """

    paths: tuple[Path, ...]
    labels: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class LabeledSplits:
    """A labeled dataset, as far as it is divided.

    Attributes:
        splits: Files of ``"train"``, ``"validation"`` and ``"test"``; a set without parts is all
            ``"train"``.
        names: All label names in their order, also those of empty folders.
        warnings: One line on each thing that was passed over.
    """

    splits: dict[str, LabeledFiles]
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def read_folder(root: Path) -> LabeledSplits:
    """Read folders of images, one folder per label.

    Args:
        root: Holds a folder per label, or ``train``, ``val`` and ``test`` folders that do, or
            nothing but a folder with these in it. Folders below a label's folder belong to it. What
            is hidden is passed over.

    Returns:
        Files by part, sorted by path, so that they do not depend on the file system's order.

    Raises:
        DataError: The folder is missing, or no image lies in a label's folder.
    """
    if not root.exists():
        raise DataError(
            f"{printable(root)} does not exist; give a folder with one folder per label"
        )
    if not root.is_dir():
        raise DataError(f"{printable(root)} is no folder; give a folder with one folder per label")
    inner = only_folder(root)
    if inner is not None and _parts(inner, []) != {"train": inner}:
        return read_folder(inner)
    warnings: list[str] = []
    parts: dict[str, LabeledFiles] = {}
    names: set[str] = set()
    for part, folder in _parts(root, warnings).items():
        labels = subfolders(folder)
        names.update(_label(label) for label in labels)
        parts[part] = _read_part(folder, labels, warnings)
    if not any(len(files) for files in parts.values()):
        raise DataError(_nothing_found(root))
    return LabeledSplits(parts, tuple(sorted(names)), tuple(warnings))


def has_label_folders(root: Path) -> bool:
    """Say whether the folders in a folder are labels, or parts that hold labels.

    Args:
        root: The folder.

    Returns:
        False if images lie in it itself, or in folders whose names only say that they are
        images or which part they are.
    """
    if _parts(root, []) != {"train": root}:
        return True
    words = {*IMAGE_FOLDERS, *(word for names in SPLIT_WORDS.values() for word in names)}
    return any(f.name.lower() not in words for f in subfolders(root) if list_images(f))


def _parts(root: Path, warnings: list[str]) -> dict[str, Path]:
    """Find the folders of the parts; a set that is not divided is all training."""
    folders = {folder.name.lower(): folder for folder in subfolders(root)}
    found: dict[str, Path] = {}
    for part, words in SPLIT_WORDS.items():
        folder = next((folders[word] for word in words if word in folders), None)
        if folder is not None and subfolders(folder):
            found[part] = folder
    others = [folder for folder in subfolders(root) if folder not in found.values()]
    if not found or (len(found) == 1 and any(list_images(folder) for folder in others)):
        return {"train": root}  # a label may happen to be called like a part
    if others:
        warnings.append(
            f"{printable(root)} is read by its parts ({', '.join(f.name for f in found.values())});"
            f" passed over: {name_some(printable(f.name) for f in others)}"
        )
    return found


def _read_part(part: Path, labels: list[Path], warnings: list[str]) -> LabeledFiles:
    paths: list[Path] = []
    names: list[tuple[str, ...]] = []
    others: list[Path] = []
    for folder in labels:
        files = list(files_below(folder))
        images = [path for path in files if is_image(path)]
        paths += images
        names += [(_label(folder),)] * len(images)
        others += [path for path in files if not is_image(path)]
        if not images:
            warnings.append(f"label {_label(folder)!r} has no images in {printable(part)}")
    loose = [path for path in entries(part) if path.is_file()]
    for files, reason in ((others, "are no images by their suffix"), (loose, "have no label")):
        if files:
            named = name_some(printable(path.name) for path in files)
            warnings.append(
                f"{len(files)} files in {printable(part)} {reason} and are passed over: {named}"
            )
    return LabeledFiles(tuple(paths), tuple(names))


def _label(folder: Path) -> str:
    return printable(folder.name)


def _nothing_found(root: Path) -> str:
    name = printable(root)
    loose = [path for path in entries(root) if is_image(path)]
    if loose:
        return (
            f"{name} holds {len(loose)} images but no folder per label; sort them into "
            "LABEL/image.jpg, or give a CSV with the columns path and label"
        )
    suffixes = sorted({path.suffix.lower() or path.name for path in files_below(root)})
    if suffixes:
        return (
            f"{name} holds no images, only {name_some(map(printable, suffixes))}; known are "
            f"{' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return f"{name} holds no images; give a folder like {printable(root.name)}/LABEL/image.jpg"

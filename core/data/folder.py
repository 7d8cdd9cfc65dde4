"""One folder per label: the layout of ImageFolder, with or without train and validation parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.errors import DataError, name_some

PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class LabelledFiles:
    """Files with their label names, before the names become ids.

    Attributes:
        paths: Picture files.
        labels: The label names of each file; one each, or any number in a table of several.
    """

    paths: tuple[Path, ...]
    labels: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class LabelledParts:
    """A labelled data set, as far as it is divided.

    Attributes:
        parts: Files of ``"train"``, ``"validation"`` and ``"test"``; a set without parts is all
            ``"train"``.
        names: All label names in their order, also those of empty folders.
        warnings: One line on each thing that was passed over.
    """

    parts: dict[str, LabelledFiles]
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def read_folder(root: Path) -> LabelledParts:
    """Read folders of pictures, one folder per label.

    Args:
        root: Holds a folder per label, or ``train``, ``val`` and ``test`` folders that do. Folders
            below a label's folder belong to it. Names that begin with a dot are passed over.

    Returns:
        Files by part, sorted by path, so that they do not depend on the file system's order.

    Raises:
        DataError: The folder is missing, or no picture lies in a label's folder.
    """
    if not root.exists():
        raise DataError(
            f"{printable(root)} does not exist; give a folder with one folder per label"
        )
    if not root.is_dir():
        raise DataError(f"{printable(root)} is no folder; give a folder with one folder per label")
    warnings: list[str] = []
    parts: dict[str, LabelledFiles] = {}
    names: set[str] = set()
    for part, folder in _parts(root, warnings).items():
        labels = _subfolders(folder)
        names.update(_label(label) for label in labels)
        parts[part] = _read_part(folder, labels, warnings)
    if not any(len(files) for files in parts.values()):
        raise DataError(_nothing_found(root))
    return LabelledParts(parts, tuple(sorted(names)), tuple(warnings))


def list_pictures(folder: Path) -> list[Path]:
    """List the picture files in a folder and below, sorted, without hidden ones.

    Args:
        folder: Where to look; links to other folders are followed.

    Returns:
        Their paths.

    Raises:
        DataError: A folder cannot be read.
    """
    return [path for path in _files_below(folder) if _is_picture(path)]


def _parts(root: Path, warnings: list[str]) -> dict[str, Path]:
    """Find the folders of the parts; a set that is not divided is all training."""
    folders = {folder.name.lower(): folder for folder in _subfolders(root)}
    found: dict[str, Path] = {}
    for part, words in PARTS.items():
        folder = next((folders[word] for word in words if word in folders), None)
        if folder is not None and _subfolders(folder):
            found[part] = folder
    others = [folder for folder in _subfolders(root) if folder not in found.values()]
    if not found or (len(found) == 1 and any(list_pictures(folder) for folder in others)):
        return {"train": root}  # a label may happen to be called like a part
    if others:
        warnings.append(
            f"{printable(root)} is read by its parts ({', '.join(f.name for f in found.values())});"
            f" passed over: {name_some(printable(f.name) for f in others)}"
        )
    return found


def _read_part(part: Path, labels: list[Path], warnings: list[str]) -> LabelledFiles:
    paths: list[Path] = []
    names: list[tuple[str, ...]] = []
    others: list[Path] = []
    for folder in labels:
        files = list(_files_below(folder))
        pictures = [path for path in files if _is_picture(path)]
        paths += pictures
        names += [(_label(folder),)] * len(pictures)
        others += [path for path in files if not _is_picture(path)]
        if not pictures:
            warnings.append(f"label {_label(folder)!r} has no pictures in {printable(part)}")
    loose = [path for path in _entries(part) if path.is_file()]
    for files, reason in ((others, "are no pictures by their suffix"), (loose, "have no label")):
        if files:
            named = name_some(printable(path.name) for path in files)
            warnings.append(
                f"{len(files)} files in {printable(part)} {reason} and are passed over: {named}"
            )
    return LabelledFiles(tuple(paths), tuple(names))


def _label(folder: Path) -> str:
    return printable(folder.name)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise _unreadable(error) from error


def _files_below(folder: Path) -> Iterator[Path]:
    """Walk in sorted order, through links to folders too, but into each folder once."""
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        seen.add(os.path.realpath(here))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(here, name)) not in seen
        )
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise _unreadable(error) from error


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{printable(error.filename)}: cannot be read: {error.strerror}")


def _nothing_found(root: Path) -> str:
    name = printable(root)
    loose = [path for path in _entries(root) if _is_picture(path)]
    if loose:
        return (
            f"{name} holds {len(loose)} pictures but no folder per label; sort them into "
            "LABEL/picture.jpg, or give a CSV with the columns path and label"
        )
    suffixes = sorted({path.suffix.lower() or path.name for path in _files_below(root)})
    if suffixes:
        return (
            f"{name} holds no pictures, only {name_some(map(printable, suffixes))}; known are "
            f"{' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return f"{name} holds no pictures; give a folder like {printable(root.name)}/LABEL/picture.jpg"

"""What lies in folders of images, without what systems leave behind there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.errors import DataError

SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# Names of folders in small letters that say no more than that images are in them.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos")
# What systems leave behind in folders and archives.
LEFTOVERS = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini"})


def list_images(folder: Path) -> list[Path]:
    """List the image files in a folder and below, sorted, without hidden ones.

    Args:
        folder: Where to look; links to other folders are followed.

    Returns:
        Their paths.

    Raises:
        DataError: A folder cannot be read.
    """
    return [path for path in files_below(folder) if is_image(path)]


def files_below(folder: Path) -> Iterator[Path]:
    """Walk through a folder and those below, without what is hidden.

    Args:
        folder: Where to begin; links to other folders are followed, but into each folder once.

    Yields:
        Files, sorted within each folder.

    Raises:
        DataError: A folder cannot be read.
    """
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        seen.add(os.path.realpath(here))
        folders[:] = sorted(
            name
            for name in folders
            if not is_hidden(name) and os.path.realpath(os.path.join(here, name)) not in seen
        )
        yield from (Path(here, name) for name in sorted(files) if not is_hidden(name))


def is_image(path: Path) -> bool:
    """Say whether a file is an image by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_hidden(name: str) -> bool:
    """Say whether a name is none of the data's: it begins with a dot, or systems leave it behind."""
    return name.startswith(".") or name.lower() in LEFTOVERS


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted, without hidden ones.

    Args:
        folder: Where to look.

    Returns:
        Their paths.

    Raises:
        DataError: It cannot be read.
    """
    return [path for path in entries(folder) if path.is_dir()]


def only_folder(folder: Path) -> Path | None:
    """Find the one folder in a folder that holds nothing else, as unpacking often leaves it.

    Args:
        folder: Where to look.

    Returns:
        Its path, or ``None``.

    Raises:
        DataError: The folder cannot be read.
    """
    found = entries(folder)
    return found[0] if len(found) == 1 and found[0].is_dir() else None


def year_folder(folder: Path) -> Path | None:
    """Find the folder of a year of Pascal VOC, such as ``VOC2012``, in ``VOCdevkit`` or its parent.

    Args:
        folder: Where to look.

    Returns:
        The only one, or ``None``.

    Raises:
        DataError: There are several.
    """
    years = [p for p in subfolders(folder) if re.fullmatch(r"VOC\d{4}", p.name, re.IGNORECASE)]
    if len(years) > 1:
        raise DataError(
            f"{printable(folder)} holds {' and '.join(p.name for p in years)}; give one of them, "
            "or a pair (training, validation)"
        )
    kit = folder / "VOCdevkit"
    return years[0] if years else year_folder(kit) if kit.is_dir() else None


def folders_named(folder: Path, names: Sequence[str]) -> list[Path]:
    """Find the folders in a folder that have one of some names, in capitals or not.

    Args:
        folder: Where to look.
        names: In small letters, the preferred ones first.

    Returns:
        Their paths in the order of the names; of two that differ in capitals alone, the one in
        small letters first.

    Raises:
        DataError: The folder cannot be read.
    """
    found = [path for path in subfolders(folder) if path.name.lower() in names]
    return sorted(found, key=lambda path: (names.index(path.name.lower()), path.name.swapcase()))


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """List the files of some types in a folder, sorted, without hidden ones.

    Args:
        folder: Where to look, though not below; it may not exist.
        suffixes: Such as ``".xml"``, in small letters; the files' own may be in capitals.

    Returns:
        Their paths.

    Raises:
        DataError: The folder cannot be read.
    """
    if not folder.is_dir():
        return []
    return [p for p in entries(folder) if p.suffix.lower() in suffixes and p.is_file()]


def entries(folder: Path) -> list[Path]:
    """List what lies in a folder, sorted, without what is hidden.

    Args:
        folder: Where to look.

    Returns:
        Paths of files and folders.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as error:
        raise _unreadable(error) from error


def _raise(error: OSError) -> None:
    raise _unreadable(error) from error


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{printable(error.filename)}: cannot be read: {error.strerror}")

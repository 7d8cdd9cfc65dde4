"""List the contents of image folders, without hidden files and files that systems leave behind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.data.names import spellings
from visiongraft.errors import DataError

Found = TypeVar("Found")

SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# Lowercase names of folders that merely contain images; "pictures" is one that users choose.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos")
# Lowercase names of folders that contain annotations.
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "groundtruth"),
    *("ground_truth", "segmentation", "segmentationclass", "segmentationobject"),
)
# Files and folders that operating systems leave behind in folders, on disks and in archives.
LEFTOVERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"}
    | {"__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini"}
)
RUN_IMAGE = "curves.png"  # which a run leaves in its folder


def list_images(folder: Path) -> list[Path]:
    """List the image files in a folder and its subfolders, sorted, without hidden ones.

    Args:
        folder: The folder to search; symbolic links to folders are followed.

    Returns:
        Their paths.

    Raises:
        DataError: A folder cannot be read.
    """
    return [path for path in files_below(folder) if is_image(path)]


def files_below(folder: Path) -> Iterator[Path]:
    """Walk through a folder and its subfolders, without hidden files and run folders.

    Args:
        folder: Where to begin; symbolic links to folders are followed, but each folder is visited
            once. It may itself be a run folder.

    Yields:
        Files, sorted within each folder.

    Raises:
        DataError: A folder cannot be read.
    """
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        seen.add(os.path.realpath(here))
        if here != os.fspath(folder) and _belongs_to_run(files, folders):
            folders.clear()
            continue
        folders[:] = sorted(
            name
            for name in folders
            if not is_hidden(name) and os.path.realpath(os.path.join(here, name)) not in seen
        )
        yield from (Path(here, name) for name in sorted(files) if not is_hidden(name))


def is_image(path: Path) -> bool:
    """Check whether a file has the suffix of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_hidden(name: str) -> bool:
    """Check whether a name begins with a dot or is one that operating systems leave behind."""
    return name.startswith(".") or name.lower() in LEFTOVERS


def is_run_folder(folder: Path) -> bool:
    """Check whether a folder was written by a training run, such as ``--out`` inside of DATA.

    Args:
        folder: The folder to list.

    Returns:
        Whether it contains the files of a run or of a saved model, and no images but the curves.

    Raises:
        DataError: The folder cannot be read.
    """
    found = entries(folder)
    folders = [path.name for path in found if path.is_dir()]
    return _belongs_to_run([path.name for path in found if path.name not in folders], folders)


def _belongs_to_run(files: Sequence[str], folders: Sequence[str]) -> bool:
    if any(is_image(Path(name)) for name in files if name != RUN_IMAGE):
        return False
    if "config.json" in files:
        return "metrics.jsonl" in files or "model.safetensors" in files
    return "run.log" in files and not folders  # it has just begun


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted, without hidden ones.

    Args:
        folder: The folder to list.

    Returns:
        Their paths.

    Raises:
        DataError: The folder cannot be read.
    """
    return [path for path in entries(folder) if path.is_dir()]


def only_folder(folder: Path) -> Path | None:
    """Find the folder that is the only entry of a folder, as is common after unpacking an archive.

    Args:
        folder: The folder to list.

    Returns:
        Its path, or ``None`` if there are other entries.

    Raises:
        DataError: The folder cannot be read.
    """
    found = entries(folder)
    return found[0] if len(found) == 1 and found[0].is_dir() else None


def year_folder(folder: Path) -> Path | None:
    """Find the folder of one year of Pascal VOC, such as ``VOC2012``.

    Args:
        folder: ``VOCdevkit`` or its parent folder.

    Returns:
        The path of the only such folder, or ``None``.

    Raises:
        DataError: There are several.
    """
    years = [p for p in subfolders(folder) if re.fullmatch(r"VOC\d{4}", p.name, re.IGNORECASE)]
    if len(years) > 1:
        raise DataError(
            f"{printable(folder)} contains {' and '.join(p.name for p in years)}; pass one of "
            "them, or a pair (training, validation)"
        )
    kit = folder / "VOCdevkit"
    return years[0] if years else year_folder(kit) if kit.is_dir() else None


def folders_named(folder: Path, names: Sequence[str]) -> list[Path]:
    """Find the folders in a folder that have one of the given names, ignoring case.

    Args:
        folder: The folder to list.
        names: Lowercase names, in order of preference.

    Returns:
        Their paths in the order of the names; of two that differ only in case, the lowercase one
        first.

    Raises:
        DataError: The folder cannot be read.
    """
    found = [path for path in subfolders(folder) if path.name.lower() in names]
    return sorted(found, key=lambda path: (names.index(path.name.lower()), path.name.swapcase()))


def one_of_each(
    found: Iterable[tuple[str | None, Found]], describe: Callable[[Found], str] = str
) -> dict[str, Found]:
    """Collect the file or folder of each split, at most one each.

    Args:
        found: Splits with their files; those without a split are skipped.
        describe: Returns the name of a file, for messages.

    Returns:
        Files by split.

    Raises:
        DataError: Two belong to the same split.
    """
    splits: dict[str, Found] = {}
    for split, item in found:
        if split is not None and splits.setdefault(split, item) is not item:
            both = " and ".join(printable(describe(each)) for each in (splits[split], item))
            raise DataError(
                f"{both} are both of the {split} split; pass one of them, or a pair "
                "(training, validation)"
            )
    return splits


@dataclass
class FileIndex:
    """The files below one folder, by relative path without suffix.

    Attributes:
        folder: The folder.
        listed: Files below it.
        files: The files by their key: the relative path without suffix.
        by_stem: Keys by the last part of the path.
    """

    folder: Path
    listed: Sequence[Path]
    files: dict[str, Path] = field(default_factory=dict)
    by_stem: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.listed:
            key = path.relative_to(self.folder).with_suffix("").as_posix()
            self.files[key] = path
            self.by_stem.setdefault(path.stem, []).append(key)

    def find(self, name: str, suffixes: Sequence[str] = ("",)) -> str | None:
        """Return the key of a file by its relative path, or by its stem if that is unique.

        Args:
            name: Relative path without file suffix; see ``names.spellings``.
            suffixes: What may follow the name, preferred ones first.
        """
        for suffix in suffixes:
            for spelling in spellings(name):
                if spelling + suffix in self.files:
                    return spelling + suffix
                alike = self.by_stem.get(Path(spelling).name + suffix, [])
                if len(alike) == 1:
                    return alike[0]
        return None


def index_files(folder: Path, files: Sequence[Path]) -> FileIndex:
    """Index files that must differ in more than their suffixes.

    Args:
        folder: The folder.
        files: Files below it.

    Raises:
        DataError: Two of them differ in their suffixes only.
    """
    index = FileIndex(folder, files)
    for path in files:
        other = index.files[path.relative_to(folder).with_suffix("").as_posix()]
        if other is not path:
            one, two = printable(path.name), printable(other.name)
            raise DataError(f"{printable(path.parent)} contains both {one} and {two}")
    return index


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """List the files in a folder that have one of the given suffixes, sorted, without hidden ones.

    Args:
        folder: The folder to list, without its subfolders; it may not exist.
        suffixes: Lowercase suffixes such as ``".xml"``; the case of the files' suffixes is ignored.

    Returns:
        Their paths; empty if there is no such folder.

    Raises:
        DataError: The folder cannot be read.
    """
    if not folder.is_dir():
        return []
    return [p for p in entries(folder) if p.suffix.lower() in suffixes and p.is_file()]


def entries(folder: Path) -> list[Path]:
    """List the entries of a folder, sorted, without hidden ones.

    Args:
        folder: The folder to list.

    Returns:
        Paths of files and folders.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as error:
        raise _unreadable(error) from error


def _raise(error: OSError) -> None:
    raise _unreadable(error) from error


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{printable(error.filename)}: cannot be read: {error.strerror}")

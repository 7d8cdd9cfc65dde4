"""Find image files and the split that a name means; read image sizes without decoding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from visiongraft.data.decode import FORMATS, printable
from visiongraft.data.listing import entries, subfolders
from visiongraft.data.names import find_listed
from visiongraft.data.parsing import parse_number
from visiongraft.errors import DataError
from visiongraft.options import is_number

_ORIENTATION = 0x0112
MAX_SIDE = 10**6  # pixels; no image has more
_PROBES = 20
_ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "label", "xml", "xmls", "json")
_ANNOTATION_SUFFIXES = (".json", ".xml", ".yaml", ".yml")
SPLIT_NAMES = {
    "train": ("train", "training", "trainval"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Header:
    """What the header of an image file contains.

    Attributes:
        size: Height and width in pixels, after EXIF rotation.
        turned: Whether EXIF rotates or mirrors the stored pixels.
    """

    size: tuple[int, int]
    turned: bool


def read_header(path: Path) -> Header | None:
    """Read the header of an image.

    Args:
        path: The file.

    Returns:
        The header, or ``None`` if it cannot be read; the core's check reports why.
    """
    try:
        if not path.is_file():  # a named pipe would block
            return None
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged files raise any exception
        return None
    size = (width, height) if orientation in range(5, 9) else (height, width)
    return Header(size, orientation in range(2, 9))


def annotation_size(path: Path, height: Any, width: Any) -> tuple[tuple[int, int] | None, bool]:
    """Return the size that coordinates refer to.

    Args:
        path: The image.
        height: Height in pixels as the annotation has it; anything if it has none.
        width: Its width.

    Returns:
        Height and width, those of the image itself if the annotation has none, or ``None`` if that
        cannot be read; and whether the annotation has none and EXIF turns the image.
    """
    sides = [_side(value) for value in (height, width)]
    if None not in sides:
        return (sides[0] or 0, sides[1] or 0), False
    header = read_header(path)
    return (None, False) if header is None else (header.size, header.turned)


def _side(value: Any) -> int | None:
    """Return a number of pixels, or ``None`` if a value cannot be one."""
    number = parse_number(value) if isinstance(value, str) else value
    return int(number) if is_number(number) and 0 < number <= MAX_SIDE else None


def split_of(words: Iterable[str]) -> str | None:
    """Determine the split of a file or folder from the words in its name.

    Args:
        words: Such as ``["instances", "train2017"]``.

    Returns:
        ``"train"``, ``"validation"``, ``"test"`` or ``None``.
    """
    for word in words:
        letters = word.lower().rstrip("0123456789")
        for split, names in SPLIT_NAMES.items():
            if letters in names:
                return split
    return None


def split_of_name(name: str) -> str | None:
    """Determine the split of a file or folder from its name, such as ``"instances_train2017"``."""
    return split_of(re.split(r"[^A-Za-z0-9]+", name))


def find_images(names: Sequence[str], near: Path, split: str, warnings: list[str]) -> list[Path]:
    """Find the images that an annotation file names.

    Args:
        names: The file names as they are written; see ``names.spellings``.
        near: The annotation file's folder; see ``find_root``.
        split: The split of these files.
        warnings: One line is appended if the files are outside of the dataset's folder.

    Returns:
        One path for each name; an image that does not exist keeps its name.
    """
    root = find_root(names, near, split, warnings)
    return [find_listed(root, name) or root / name.replace("\\", "/") for name in names]


def find_root(names: Sequence[str], near: Path, split: str, warnings: list[str]) -> Path:
    """Find the folder that file names in an annotation file are relative to.

    Args:
        names: The file names.
        near: The annotation file's folder; it and the folders up to two levels below are tried,
            and if none of the files is there, its parent and the folders below that which are not
            datasets of their own.
        split: The split of these files: splits may have files of the same names in folders of their
            own.
        warnings: One line is appended if the files are outside of the dataset's folder.

    Returns:
        The folder under which most of a sample of the files exist.
    """
    step = max(len(names) // _PROBES, 1)
    probes = names[::step]

    def hits(root: Path) -> int:
        return sum(find_listed(root, probe) is not None for probe in probes)

    def fits(root: Path, start: Path) -> int:
        named = split_of_name(str(root.relative_to(start)))
        return 0 if named is None else 1 if named == split else -1

    # If any of them are near, the others are missing, and must not be taken from elsewhere.
    inside = near.name.lower() in _ANNOTATION_FOLDERS or split_of_name(near.name) is not None
    for start in (near, near.parent):
        roots = _below(start) if start == near or inside else _below(start, _is_dataset)
        found = [(hits(root), fits(root, start), root) for root in roots]
        most = max((count, fit) for count, fit, _ in found)
        if most[0]:
            root = next(root for count, fit, root in found if (count, fit) == most)
            if start != near and not inside:
                warnings.append(
                    f"the images of {printable(near)} are read from {printable(root)}, outside of "
                    "that folder"
                )
            return root
    return near


def _below(start: Path, skipped: Callable[[Path], bool] = lambda _: False) -> list[Path]:
    children = [child for child in _subfolders(start) if not skipped(child)]
    return [start, *children, *(grand for child in children for grand in _subfolders(child))]


def _is_dataset(folder: Path) -> bool:
    """Check whether a folder contains annotations, and so a dataset of its own."""
    try:
        return any(
            path.suffix.lower() in _ANNOTATION_SUFFIXES
            or (path.name.lower() in _ANNOTATION_FOLDERS and path.is_dir())
            for path in entries(folder)
        )
    except DataError:
        return True


def _subfolders(folder: Path) -> list[Path]:
    try:
        return subfolders(folder)
    except DataError:
        return []

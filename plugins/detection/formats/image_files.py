"""Finding image files, and their sizes without decoding them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from visiongraft.data.decode import FORMATS, printable
from visiongraft.data.listing import subfolders
from visiongraft.errors import DataError

_ORIENTATION = 0x0112
_PROBES = 20
PARTS = {
    "train": ("train", "training", "trainval"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def image_size(path: Path) -> tuple[int, int] | None:
    """Read an image's height and width, as it is after EXIF rotation, from its header.

    Args:
        path: The file.

    Returns:
        Height and width in pixels, or ``None`` if it cannot be read; the core's check says why.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) in range(5, 9)
    except Exception:  # damaged files raise anything
        return None
    return (width, height) if turned else (height, width)


def part_of(words: Iterable[str]) -> str | None:
    """Say which part of a dataset a file or folder is by the words in its name.

    Args:
        words: Such as ``["instances", "train2017"]``.

    Returns:
        ``"train"``, ``"validation"``, ``"test"`` or ``None``.
    """
    for word in words:
        letters = word.lower().rstrip("0123456789")
        for part, names in PARTS.items():
            if letters in names:
                return part
    return None


def part_of_name(name: str) -> str | None:
    """Say which part a file or folder is by its name, such as ``"instances_train2017"``."""
    return part_of(re.split(r"[^A-Za-z0-9]+", name))


def one_of_each(found: Iterable[tuple[str | None, Path]]) -> dict[str, Path]:
    """Collect the file or folder of each part.

    Args:
        found: Parts with their files; those of no part are left out.

    Returns:
        Files by part.

    Raises:
        DataError: Two are of the same part.
    """
    parts: dict[str, Path] = {}
    for part, path in found:
        if part is None:
            continue
        if part in parts:
            raise DataError(
                f"{printable(parts[part])} and {printable(path)} are both of the {part} part; give "
                "one of them, or a pair (training, validation)"
            )
        parts[part] = path
    return parts


def find_root(names: Sequence[str], near: Path, part: str) -> Path:
    """Find the folder that file names in an annotation file are relative to.

    Args:
        names: The file names.
        near: The annotation file's folder; it and the folders up to two levels below are tried,
            and if none of the files is there, the folder above and those below that.
        part: The part that they are of: parts may have files of the same names in folders of
            their own.

    Returns:
        The folder under which most of a few probes exist.
    """
    step = max(len(names) // _PROBES, 1)
    probes = [Path(name) for name in names[::step]]

    def hits(root: Path) -> int:
        return sum((root / probe).is_file() for probe in probes)

    def fits(root: Path, start: Path) -> int:
        named = part_of_name(str(root.relative_to(start)))
        return 0 if named is None else 1 if named == part else -1

    # Where any of them lie near, the others are missing: they are not to be had from elsewhere.
    for start in (near, near.parent):
        found = [(hits(root), fits(root, start), root) for root in _below(start)]
        most = max((count, fit) for count, fit, _ in found)
        if most[0]:
            return next(root for count, fit, root in found if (count, fit) == most)
    return near


def _below(start: Path) -> list[Path]:
    children = _subfolders(start)
    return [start, *children, *(grand for child in children for grand in _subfolders(child))]


def _subfolders(folder: Path) -> list[Path]:
    try:
        return subfolders(folder)
    except DataError:
        return []

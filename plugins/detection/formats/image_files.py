"""Find image files and the split that a name means; read image sizes without decoding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from visiongraft.data.decode import FORMATS
from visiongraft.data.listing import subfolders
from visiongraft.errors import DataError

_ORIENTATION = 0x0112
_PROBES = 20
SPLIT_NAMES = {
    "train": ("train", "training", "trainval"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def image_size(path: Path) -> tuple[int, int] | None:
    """Read height and width of an image, after EXIF rotation, from its header.

    Args:
        path: The file.

    Returns:
        Height and width in pixels, or ``None`` if it cannot be read; the core's check reports why.
    """
    if not path.is_file():  # to open a named pipe would wait
        return None
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            rotated = image.getexif().get(_ORIENTATION, 1) in range(5, 9)
    except Exception:  # damaged files raise any exception
        return None
    return (width, height) if rotated else (height, width)


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


def find_root(names: Sequence[str], near: Path, split: str) -> Path:
    """Find the folder that file names in an annotation file are relative to.

    Args:
        names: The file names.
        near: The annotation file's folder; it and the folders up to two levels below are tried,
            and if none of the files is there, its parent and the folders below that.
        split: The split of these files: splits may have files of the same names in folders of their
            own.

    Returns:
        The folder under which most of a sample of the files exist.
    """
    step = max(len(names) // _PROBES, 1)
    probes = [Path(name) for name in names[::step]]

    def hits(root: Path) -> int:
        return sum((root / probe).is_file() for probe in probes)

    def fits(root: Path, start: Path) -> int:
        named = split_of_name(str(root.relative_to(start)))
        return 0 if named is None else 1 if named == split else -1

    # If any of them are near, the others are missing, and must not be taken from elsewhere.
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

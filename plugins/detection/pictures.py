"""Finding picture files, and their sizes without decoding them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from visiongraft.data.decode import FORMATS, IMAGE_SUFFIXES

_ORIENTATION = 0x0112
_PROBES = 20
PARTS = {
    "train": ("train", "training", "trainval"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def picture_size(path: Path) -> tuple[int, int] | None:
    """Read a picture's height and width, as it is after EXIF rotation, from its header.

    Args:
        path: The file.

    Returns:
        Height and width in pixels, or ``None`` if it cannot be read; the core's check says why.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_ORIENTATION, 1) in range(5, 9)
    except Exception:  # damaged files raise anything
        return None
    return (width, height) if turned else (height, width)


def is_picture(path: Path) -> bool:
    """Say whether a file is a picture by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def part_of(words: Iterable[str]) -> str | None:
    """Say which part of a data set a file or folder is by the words in its name.

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


def find_root(names: Sequence[str], near: Path) -> Path:
    """Find the folder that file names in an annotation file are relative to.

    Args:
        names: The file names.
        near: The annotation file's folder; it and the folders up to two levels below are tried,
            and if none of the files is there, the folder above and those below that.

    Returns:
        The folder under which most of a few probes exist.
    """
    step = max(len(names) // _PROBES, 1)
    probes = [Path(name) for name in names[::step]]

    def hits(root: Path) -> int:
        return sum((root / probe).is_file() for probe in probes)

    # Where any of them lie near, the others are missing: they are not to be had from elsewhere.
    for start in (near, near.parent):
        found = [(hits(root), root) for root in _below(start)]
        most = max(count for count, _ in found)
        if most:
            return next(root for count, root in found if count == most)
    return near


def _below(start: Path) -> list[Path]:
    children = _subfolders(start)
    return [start, *children, *(grand for child in children for grand in _subfolders(child))]


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []

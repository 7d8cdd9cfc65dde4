"""Text files that list images, one path on each line, as YOLO's ``train.txt``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from visiongraft.data.decode import read_lines
from visiongraft.data.names import find_listed, spellings

_PROBES = 20


def read_image_list(file: Path, base: Path) -> list[Path]:
    """Read a list of images.

    Tools write paths relative to the folder that they export into, or absolute ones of another
    machine. Therefore leading folders that all lines have in common are dropped if none of the
    images exists otherwise.

    Args:
        file: The list.
        base: A folder that paths may be relative to; the folder of the list is the other.

    Returns:
        The paths, below the folder of the list if no image exists.

    Raises:
        DataError: The list cannot be read.
    """
    lines = read_lines(file)
    direct = [find_path(line, (file.parent, base)) for line in lines]
    if not lines or any(direct):
        return [found or file.parent / line for found, line in zip(direct, lines, strict=True)]
    names = [line.replace("\\", "/") for line in lines]
    for shortened in _without_leading_folders(names):
        for folder in dict.fromkeys((file.parent, base)):
            step = max(len(names) // _PROBES, 1)
            if any(find_listed(folder, name) for name in shortened[::step]):
                return [find_listed(folder, name) or folder / name for name in shortened]
    return [file.parent / line for line in lines]


def find_path(written: str, folders: Sequence[Path]) -> Path | None:
    """Find a file or folder by its path, relative to one of some folders.

    Args:
        written: The path as written in a file; see ``names.spellings``.
        folders: The folders, preferred ones first.

    Returns:
        Its path, or ``None`` if it does not exist.
    """
    for text in spellings(written):
        for folder in folders:
            if os.path.exists(folder / text):
                return folder / text
    return None


def _without_leading_folders(names: Sequence[str]) -> Iterator[list[str]]:
    """Drop one more leading folder in each step, as long as all paths begin with the same."""
    parts = [name.lstrip("/").split("/") for name in names]
    while all(len(each) > 1 for each in parts) and len({each[0] for each in parts}) == 1:
        parts = [each[1:] for each in parts]
        yield ["/".join(each) for each in parts]

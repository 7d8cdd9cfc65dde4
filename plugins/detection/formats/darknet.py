"""Darknet's ``obj.data``, as CVAT writes it: lists of images, and a file of class names."""

from __future__ import annotations

from pathlib import Path

from visiongraft.data.decode import SMALL_FILE_BYTES, printable, read_lines
from visiongraft.data.listing import files_in
from visiongraft.errors import DataError
from visiongraft.plugins.detection.formats.dataset import BoxDataset
from visiongraft.plugins.detection.formats.image_lists import find_path, read_image_list
from visiongraft.plugins.detection.formats.yolo_labels import names_by_id, read_images

SUFFIX = ".data"
KEYS = {"train": "train", "valid": "validation", "test": "test"}


def find_data_file(folder: Path) -> Path | None:
    """Find ``obj.data`` with at least one of its lists in a folder."""
    for file in files_in(folder, SUFFIX):
        settings = _settings(file)
        if "names" in settings and any(_find(settings.get(key), file) for key in KEYS):
            return file
    return None


def read_data_file(file: Path) -> BoxDataset:
    """Read a dataset by its ``obj.data``.

    Args:
        file: Lines such as ``train = data/train.txt``, with ``train``, ``valid``, ``test`` and
            ``names``. Paths are relative to its folder, with or without the leading ``data/``.

    Returns:
        Images with boxes; class names in the order of their ids.

    Raises:
        DataError: A file is missing or damaged.
    """
    settings = _settings(file)
    names = _find(settings.get("names"), file)
    if names is None:
        raise DataError(
            f"{printable(file)} refers to the class names {settings.get('names')!r}, which do not "
            "exist"
        )
    lists = {split: _find(settings.get(key), file) for key, split in KEYS.items()}
    images = {split: read_image_list(each, file.parent) for split, each in lists.items() if each}
    warnings = [
        f"{printable(file)} refers to {settings[key]}, which does not exist; it is skipped for the "
        f"{split} split"
        for key, split in KEYS.items()
        if key in settings and lists[split] is None
    ]
    lines = read_lines(names, SMALL_FILE_BYTES)
    return read_images(images, names_by_id(lines, names), names, warnings)


def _settings(file: Path) -> dict[str, str]:
    rows = [line.partition("=") for line in read_lines(file, SMALL_FILE_BYTES)]
    return {key.strip(): value.strip() for key, _, value in rows if value.strip()}


def _find(written: str | None, file: Path) -> Path | None:
    if not written:
        return None
    found = find_path(written, [file.parent])
    return found or find_path(written.replace("\\", "/").rpartition("/")[2], [file.parent])

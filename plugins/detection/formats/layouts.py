"""Which form of data a path is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from visiongraft.data.decode import printable
from visiongraft.data.listing import only_folder
from visiongraft.errors import DataError
from visiongraft.plugins.detection.formats.coco import find_files, read_coco
from visiongraft.plugins.detection.formats.dataset import BoxDataset
from visiongraft.plugins.detection.formats.voc import read_voc
from visiongraft.plugins.detection.formats.voc_layouts import find_places, own_place
from visiongraft.plugins.detection.formats.yolo_config import find_config, read_config
from visiongraft.plugins.detection.formats.yolo_folders import find_sets, read_sets, refuse_nameless

KNOWN = (
    "a COCO file (.json) or a folder of them, images with Pascal VOC's XML files, or a YOLO "
    "folder (data.yaml, or images and labels with classes.txt)"
)

Read = Callable[[], BoxDataset]


def read_path(path: Path) -> BoxDataset:
    """Read a file or folder in COCO's, Pascal VOC's or YOLO's form.

    Args:
        path: Where it is.

    Returns:
        What was found; of a folder with nothing but another one in it what is in that. Where a
        folder is in several forms, the first in the order of ``FORMS``
        counts, and a warning names the others.

    Raises:
        DataError: It does not exist, is in no known form, or is damaged.
    """
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".json":
        return read_coco({"train": path})
    if path.is_file() and suffix in (".yaml", ".yml"):
        return read_config(path)
    if path.is_file():
        raise DataError(f"{printable(path)} is a file of no known format; give {KNOWN}")
    if not path.is_dir():
        raise DataError(f"{printable(path)} does not exist; give {KNOWN}")
    for position, (form, find) in enumerate(FORMS):
        read = find(path)
        if read is not None:
            source = read()
            others = {other: look for other, look in FORMS[position + 1 :] if other != form}
            left = [other for other, look in others.items() if _is_there(look, path)]
            if not left:
                return source
            line = (
                f"{printable(path)} is read in the form of {form}; what is there in that of "
                f"{' and '.join(left)} is passed over"
            )
            return replace(source, warnings=(*source.warnings, line))
    inner = only_folder(path)
    if inner is not None:
        return read_path(inner)
    refuse_nameless(path)
    raise DataError(f"{printable(path)} holds no boxes; give {KNOWN}")


def _is_there(find: Callable[[Path], Read | None], path: Path) -> bool:
    try:
        return find(path) is not None
    except DataError:  # there, and not as it should be
        return True


def _own_voc(folder: Path) -> Read | None:
    place = own_place(folder)
    return None if place is None else partial(read_voc, [place])


def _config(folder: Path) -> Read | None:
    config = find_config(folder)
    return None if config is None else partial(read_config, config)


def _coco(folder: Path) -> Read | None:
    files = find_files(folder)
    return partial(read_coco, files) if files else None


def _sets(folder: Path) -> Read | None:
    sets = find_sets(folder)
    return None if sets is None else partial(read_sets, sets)


def _voc(folder: Path) -> Read | None:
    warnings: list[str] = []
    places = find_places(folder, warnings)
    return partial(read_voc, places, warnings) if places else None


FORMS: tuple[tuple[str, Callable[[Path], Read | None]], ...] = (
    ("Pascal VOC", _own_voc),
    ("YOLO", _config),
    ("COCO", _coco),
    ("YOLO", _sets),
    ("Pascal VOC", _voc),
)

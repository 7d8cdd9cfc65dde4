"""Read a file or folder in whichever format it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from visiongraft.data.annotations.cvat import find_cvat_files, is_cvat, read_cvat
from visiongraft.data.annotations.folders import (
    AnnotationFolders,
    find_annotation_folders,
    official_folder,
)
from visiongraft.data.annotations.labelme import find_labelme_folders, read_labelme
from visiongraft.data.decode import printable
from visiongraft.data.listing import only_folder
from visiongraft.errors import DataError
from visiongraft.plugins.detection.formats.coco import read_coco
from visiongraft.plugins.detection.formats.coco_files import coco_problem, find_files
from visiongraft.plugins.detection.formats.darknet import find_data_file, read_data_file
from visiongraft.plugins.detection.formats.dataset import BoxDataset
from visiongraft.plugins.detection.formats.shapes import to_boxes
from visiongraft.plugins.detection.formats.voc_xml import read_voc
from visiongraft.plugins.detection.formats.yolo_folders import (
    find_yolo_folders,
    read_yolo_folders,
    reject_without_names,
)
from visiongraft.plugins.detection.formats.yolo_yaml import find_config, read_config

KNOWN = (
    "a COCO file (.json) or a folder of them, images with the files of Pascal VOC (.xml), LabelMe "
    "(.json) or CVAT (.xml), or a YOLO folder (data.yaml, or images and labels with classes.txt)"
)

Read = Callable[[], BoxDataset]


def read_path(path: Path) -> BoxDataset:
    """Read a file or folder in the format of COCO, Pascal VOC, YOLO, LabelMe or CVAT.

    Args:
        path: The file or folder.

    Returns:
        The dataset; of a folder that contains only another folder, the dataset in that. If a folder
        is in several formats, the first in the order of ``FORMATS`` is read, and a warning names
        the others.

    Raises:
        DataError: The path does not exist, is in no known format, or is damaged.
    """
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".json":
        return read_coco({"train": path})
    if path.is_file() and suffix in (".yaml", ".yml"):
        return read_config(path)
    if path.is_file() and suffix == ".xml" and is_cvat(path):
        return to_boxes(read_cvat({path: None}))
    if path.is_file() and suffix == ".data":
        return read_data_file(path)
    if path.is_file():
        raise DataError(f"{printable(path)} is not in a known format; expected {KNOWN}")
    if not path.is_dir():
        raise DataError(f"{printable(path)} does not exist; expected {KNOWN}")
    for position, (name, find) in enumerate(FORMATS):
        read = find(path)
        if read is not None:
            dataset = read()
            others = {
                other: seek
                for other, seek in FORMATS[position + 1 :]
                if other != name and (name, other) != ("LabelMe", "COCO")  # both are .json
            }
            skipped = [other for other, seek in others.items() if _exists(seek, path)]
            if not skipped:
                return dataset
            line = (
                f"{printable(path)} is read as {name}; its data in the format of "
                f"{' and '.join(skipped)} is skipped"
            )
            return replace(dataset, warnings=(*dataset.warnings, line))
    inner = only_folder(path)
    if inner is not None:
        return read_path(inner)
    reject_without_names(path)
    problem = coco_problem(path)
    if problem:
        raise DataError(f"{printable(path)} contains no boxes: {problem}")
    raise DataError(f"{printable(path)} contains no boxes; expected {KNOWN}")


def _exists(find: Callable[[Path], Read | None], path: Path) -> bool:
    try:
        return find(path) is not None
    except DataError:  # it exists, but is faulty
        return True


def _official_voc(folder: Path) -> Read | None:
    found = official_folder(folder)
    return None if found is None or _all_cvat([found]) else partial(read_voc, [found])


def _yolo_yaml(folder: Path) -> Read | None:
    config = find_config(folder)
    return None if config is None else partial(read_config, config)


def _cvat(folder: Path) -> Read | None:
    files = find_cvat_files(folder)
    return (lambda: to_boxes(read_cvat(files))) if files else None


def _labelme(folder: Path) -> Read | None:
    warnings: list[str] = []
    found = find_labelme_folders(folder, warnings)
    return (lambda: to_boxes(read_labelme(found, warnings))) if found else None


def _coco(folder: Path) -> Read | None:
    files = find_files(folder)
    return partial(read_coco, files) if files else None


def _darknet(folder: Path) -> Read | None:
    file = find_data_file(folder)
    return None if file is None else partial(read_data_file, file)


def _yolo_folders(folder: Path) -> Read | None:
    found = find_yolo_folders(folder)
    return None if found is None else partial(read_yolo_folders, found)


def _voc(folder: Path) -> Read | None:
    warnings: list[str] = []
    found = find_annotation_folders(folder, warnings)
    return partial(read_voc, found, warnings) if found and not _all_cvat(found) else None


def _all_cvat(folders: Sequence[AnnotationFolders]) -> bool:
    return all(is_cvat(file) for each in folders for file in each.files)


FORMATS: tuple[tuple[str, Callable[[Path], Read | None]], ...] = (
    ("CVAT", _cvat),
    ("Pascal VOC", _official_voc),
    ("YOLO", _yolo_yaml),
    ("LabelMe", _labelme),
    ("COCO", _coco),
    ("YOLO", _darknet),
    ("YOLO", _yolo_folders),
    ("Pascal VOC", _voc),
)

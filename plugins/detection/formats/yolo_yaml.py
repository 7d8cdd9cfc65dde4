"""YOLO's ``data.yaml``: the images of each split, and the class names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable, read_lines
from visiongraft.data.listing import list_images
from visiongraft.data.parsing import read_yaml, show_value
from visiongraft.errors import DataError
from visiongraft.plugins.detection.formats.dataset import BoxDataset
from visiongraft.plugins.detection.formats.yolo_labels import names_by_id, read_images

CONFIGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
MAX_UNNAMED = 100_000  # classes of which only the number is known
KEYS = (("train", "train"), ("val", "validation"), ("valid", "validation"), ("test", "test"))


def find_config(folder: Path) -> Path | None:
    """Find ``data.yaml`` in a folder."""
    return next((folder / name for name in CONFIGS if (folder / name).is_file()), None)


def read_config(file: Path) -> BoxDataset:
    """Read a dataset by its ``data.yaml``.

    Args:
        file: The configuration: ``train``, ``val`` and ``test`` folders or lists of images,
            relative to ``path`` or to the file itself, and the ``names`` of the classes as a list
            or by class id, or only their number ``nc``.

    Returns:
        Images with boxes; class names in the order of their ids. If splits other than the training
        split are missing, a warning names them.

    Raises:
        DataError: A file is missing or damaged.
    """
    config = _load(file)
    warnings: list[str] = []
    names = _names(config, file, warnings)
    images: dict[str, list[Path]] = {}
    absent: list[str] = []
    for key, split in KEYS:
        for path in _paths(config, key, file):
            found = _find(path, config, file)
            listed = [] if found is None else _images(found, _base(config, file))
            if not listed:
                problem = "does not exist" if found is None else "contains no images"
                line = f"{printable(file)} refers to {path}, which {problem}"
                if split == "train":
                    raise DataError(f"{line}; the training images are required")
                absent.append(split)
                warnings.append(f"{line}; it is skipped for the {split} split")
            images.setdefault(split, []).extend(listed)
    absent = [split for split in dict.fromkeys(absent) if not images[split]]
    if "validation" in absent:
        warnings.append("without the validation split, training images are held out")
    return read_images(images, names, file, warnings, absent)


def _load(file: Path) -> dict[str, Any]:
    config = read_yaml(file)
    if not isinstance(config, dict) or not {"names", "nc"} & config.keys():
        raise DataError(f"{printable(file)} has no names; expected train, val and names")
    return config


def _names(config: dict[str, Any], file: Path, warnings: list[str]) -> dict[int, str]:
    count = config.get("nc")
    if "names" not in config:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise DataError(
                f"{printable(file)}: nc={show_value(count)} is not a number of classes; add names"
            )
        if count > MAX_UNNAMED:
            raise DataError(
                f"{printable(file)}: nc={show_value(count)} is more than {MAX_UNNAMED:,} classes "
                "without names; add names, or correct nc"
            )
        warnings.append(f"{printable(file)} has no names; class ids are used as names")
        return {i: str(i) for i in range(count)}
    names = names_by_id(config["names"], file)
    if count is not None and count != len(names):
        warnings.append(
            f"{printable(file)} has nc: {show_value(count)}, but {len(names)} class names"
        )
    return names


def _paths(config: dict[str, Any], key: str, file: Path) -> list[str]:
    paths = config.get(key) or []
    listed = [paths] if isinstance(paths, str) else paths
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise DataError(
            f"{printable(file)}: {key}={show_value(paths)} is not a folder or list of folders"
        )
    return listed


def _base(config: dict[str, Any], file: Path) -> Path:
    return file.parent / str(config.get("path") or "")


def _find(path: str, config: dict[str, Any], file: Path) -> Path | None:
    base = _base(config, file)
    for written in _spellings(path):
        # Some tools write paths relative to a folder beside the file's own.
        options = [base / written, file.parent / written]
        options.append(file.parent / written.removeprefix("../"))
        for option in options:
            if option.exists():
                return option
    return None


def _images(found: Path, base: Path) -> list[Path]:
    """List the images of a folder, or those in a list file."""
    if found.is_dir():
        return list_images(found)
    return [_listed(line, found, base) for line in read_lines(found)]


def _listed(line: str, file: Path, base: Path) -> Path:
    options = [folder / each for each in _spellings(line) for folder in (file.parent, base)]
    return next((path for path in options if path.exists()), options[0])


def _spellings(line: str) -> Iterable[str]:
    return dict.fromkeys((line, line.replace("\\", "/")))

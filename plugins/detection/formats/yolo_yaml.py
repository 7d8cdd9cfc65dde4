"""YOLO's ``data.yaml``: the images of each split, and the class names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable
from visiongraft.data.listing import list_images
from visiongraft.data.parsing import parse_number, read_yaml, show_value
from visiongraft.errors import DataError
from visiongraft.plugins.detection.formats.dataset import BoxDataset
from visiongraft.plugins.detection.formats.image_lists import find_path, read_image_list
from visiongraft.plugins.detection.formats.yolo_labels import names_by_id, read_images
from visiongraft.plugins.detection.formats.yolo_lines import read_keypoints

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
            or by class id, or only their number ``nc``; of pose labels also ``kpt_shape``. Names are
            taken as they are written: ``no`` and ``007`` are names, not values.

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
    keypoints = read_keypoints(config.get("kpt_shape"), file)
    return read_images(images, names, file, warnings, absent, keypoints)


def _load(file: Path) -> dict[str, Any]:
    config = read_yaml(file, as_text=True)
    if not isinstance(config, dict) or not {"names", "nc"} & config.keys():
        raise DataError(f"{printable(file)} has no names; expected train, val and names")
    return config


def _names(config: dict[str, Any], file: Path, warnings: list[str]) -> dict[int, str]:
    count = parse_number(str(config.get("nc")))
    if "names" not in config:
        if not count:
            raise DataError(
                f"{printable(file)}: nc={show_value(config['nc'])} is not a number of classes; add "
                "names"
            )
        if count > MAX_UNNAMED:
            raise DataError(
                f"{printable(file)}: nc={show_value(count)} is more than {MAX_UNNAMED:,} classes "
                "without names; add names, or correct nc"
            )
        warnings.append(f"{printable(file)} has no names; class ids are used as names")
        return {i: str(i) for i in range(count)}
    names = names_by_id(config["names"], file)
    if "nc" in config and count != len(names):
        written = config["nc"] if count is None else count
        warnings.append(
            f"{printable(file)} has nc: {show_value(written)}, but {len(names)} class names"
        )
    return names


def _paths(config: dict[str, Any], key: str, file: Path) -> list[str]:
    paths = config.get(key) or []
    if paths in ("null", "~"):
        return []
    listed = [paths] if isinstance(paths, str) else paths
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise DataError(
            f"{printable(file)}: {key}={show_value(paths)} is not a folder or list of folders"
        )
    return listed


def _base(config: dict[str, Any], file: Path) -> Path:
    return file.parent / str(config.get("path") or "")


def _find(path: str, config: dict[str, Any], file: Path) -> Path | None:
    # Some tools write paths relative to a folder beside the file's own: a dataset beside this one
    # may have the same folders, so those of this one come first.
    inside = path.replace("\\", "/").removeprefix("../")
    found = find_path(path, [_base(config, file), file.parent])
    own = find_path(inside, [file.parent])
    return own if own is not None and (found is None or "path" not in config) else found


def _images(found: Path, base: Path) -> list[Path]:
    """List the images of a folder, or those in a list file."""
    return list_images(found) if found.is_dir() else read_image_list(found, base)

"""YOLO's images and label files without a ``data.yaml``: the folders say the parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.data.listing import files_in, folders_named, list_images, subfolders
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.formats.dataset import BoxDataset
from visiongraft.plugins.detection.formats.image_files import one_of_each, part_of, part_of_name
from visiongraft.plugins.detection.formats.yolo import (
    NAME_FILES,
    names_by_id,
    read_images,
    text_lines,
)


@dataclass(frozen=True)
class Sets:
    """Images that have label files, and the file that names the classes.

    Attributes:
        images: By part.
        names: The file.
        warnings: One line on each thing that was passed over.
    """

    images: dict[str, list[Path]]
    names: Path
    warnings: tuple[str, ...] = ()


def find_sets(folder: Path) -> Sets | None:
    """Find images with label files.

    In this order: in ``images`` and ``labels``, each with or without part folders; in both of them
    or side by side in ``train``, ``val`` and ``test``; side by side in ``folder`` itself.

    Args:
        folder: Where to look. A file with the names of the classes lies in it, in ``labels``, or in
            a part's folder.

    Returns:
        What was found; ``None`` if there is nothing or no names.

    Raises:
        DataError: Two folders are of the same part, or their names differ.
    """
    warnings: list[str] = []
    if _is_pair(folder):
        places, images = [folder], _divided(_images(folder), warnings)
    else:
        found = _parts(folder)
        places, images = list(found.values()), {p: _image_files(f) for p, f in found.items()}
        if not found and _is_flat(folder):
            places, images = [folder], {"train": files_in(folder, *IMAGE_SUFFIXES)}
    files = [file for place in dict.fromkeys([folder, *places]) for file in _name_files(place)]
    if not images or not files:
        return None
    for file in files[1:]:
        if text_lines(file) != text_lines(files[0]):
            raise DataError(
                f"{printable(files[0])} and {printable(file)} name different classes; keep one"
            )
    return Sets(images, files[0], tuple(warnings))


def read_sets(sets: Sets) -> BoxDataset:
    """Read what ``find_sets`` found.

    Args:
        sets: Images by part, and the file with the class names, one a line.

    Returns:
        Images with boxes; label names in the order of their class ids.

    Raises:
        DataError: Something is missing or damaged.
    """
    names = names_by_id(text_lines(sets.names), sets.names)
    return read_images(sets.images, names, sets.names, sets.warnings)


def refuse_nameless(folder: Path) -> None:
    """Refuse a folder that lacks nothing but the names of its classes.

    Args:
        folder: The folder.

    Raises:
        DataError: It is one.
    """
    if _is_pair(folder) or any(_is_pair(p) for p in subfolders(folder) if part_of_name(p.name)):
        raise DataError(
            f"{printable(folder)} has no classes.txt; write one with a class name on each line"
        )


def _name_files(folder: Path) -> list[Path]:
    places = [folder, *folders_named(folder, ("labels",))]
    return [p / name for p in places for name in NAME_FILES if (p / name).is_file()][:1]


def _images(folder: Path) -> Path:
    return folders_named(folder, ("images",))[0]


def _is_pair(folder: Path) -> bool:
    return all(folders_named(folder, (name,)) for name in ("images", "labels"))


def _is_flat(folder: Path) -> bool:
    """Say whether some image has a label file beside it."""
    stems = {path.stem for path in files_in(folder, ".txt")}
    return any(path.stem in stems for path in files_in(folder, *IMAGE_SUFFIXES))


def _parts(folder: Path) -> dict[str, Path]:
    below = [(part_of_name(p.name), p) for p in subfolders(folder)]
    return one_of_each((part, p) for part, p in below if _is_pair(p) or _is_flat(p))


def _image_files(folder: Path) -> list[Path]:
    if _is_pair(folder):
        return list_images(_images(folder))
    return files_in(folder, *IMAGE_SUFFIXES)


def _divided(images: Path, warnings: list[str]) -> dict[str, list[Path]]:
    folders = subfolders(images)
    parts = {part: p for p in folders if (part := part_of([p.name]))}
    left = [p.name for p in folders if p not in parts.values() and list_images(p)]
    if parts and (left or files_in(images, *IMAGE_SUFFIXES)):
        left += [p.name for p in files_in(images, *IMAGE_SUFFIXES)]
        named = name_some(map(printable, left))
        warnings.append(
            f"{printable(images)} is read by {' and '.join(p.name for p in parts.values())}; "
            f"passed over: {named}"
        )
    listed = {part: list_images(place) for part, place in parts.items()}
    return listed or {"train": list_images(images)}

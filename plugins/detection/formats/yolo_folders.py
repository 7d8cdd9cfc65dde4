"""YOLO's images and label files without a ``data.yaml``: folders determine the splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visiongraft.data.annotations.image_files import split_of, split_of_name
from visiongraft.data.decode import IMAGE_SUFFIXES, SMALL_FILE_BYTES, printable, read_lines
from visiongraft.data.listing import files_in, folders_named, list_images, one_of_each, subfolders
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.formats.dataset import BoxDataset
from visiongraft.plugins.detection.formats.yolo_labels import (
    NAME_FILES,
    names_by_id,
    read_images,
)


@dataclass(frozen=True)
class YoloFolders:
    """Images with label files, and the file of class names.

    Attributes:
        images: The images by split.
        names: The file of class names.
        warnings: One line for each thing that was skipped.
    """

    images: dict[str, list[Path]]
    names: Path
    warnings: tuple[str, ...] = ()


def find_yolo_folders(folder: Path) -> YoloFolders | None:
    """Find images with label files.

    In this order: in ``images`` and ``labels``, each with or without a folder per split; in
    ``train``, ``val`` and ``test``, in such a pair of folders or side by side; side by side in
    ``folder`` itself.

    Args:
        folder: The folder to search. It, its ``labels``, or the folder of a split contains the file
            of class names.

    Returns:
        The images; ``None`` if there are none, or no class names.

    Raises:
        DataError: Two folders belong to the same split, or their class names differ.
    """
    warnings: list[str] = []
    if _is_pair(folder):
        folders, images = [folder], _by_split(_images(folder), warnings)
    else:
        found = _split_folders(folder)
        folders, images = list(found.values()), {p: _image_files(f) for p, f in found.items()}
        if not found and _is_flat(folder):
            folders, images = [folder], {"train": files_in(folder, *IMAGE_SUFFIXES)}
    files = [file for each in dict.fromkeys([folder, *folders]) for file in _name_files(each)]
    if not images or not files:
        return None
    for file in files[1:]:
        if read_lines(file, SMALL_FILE_BYTES) != read_lines(files[0], SMALL_FILE_BYTES):
            raise DataError(
                f"{printable(files[0])} and {printable(file)} name different classes; keep one"
            )
    return YoloFolders(images, files[0], tuple(warnings))


def read_yolo_folders(found: YoloFolders) -> BoxDataset:
    """Read the label files of images.

    Args:
        found: Images by split, and the file of class names, one per line.

    Returns:
        Images with boxes; class names in the order of their ids.

    Raises:
        DataError: A file is missing or damaged.
    """
    names = names_by_id(read_lines(found.names, SMALL_FILE_BYTES), found.names)
    return read_images(found.images, names, found.names, found.warnings)


def reject_without_names(folder: Path) -> None:
    """Reject a YOLO folder that lacks only the class names.

    Args:
        folder: The folder.

    Raises:
        DataError: It is such a folder.
    """
    if _is_pair(folder) or any(_is_pair(p) for p in subfolders(folder) if split_of_name(p.name)):
        raise DataError(
            f"{printable(folder)} has no classes.txt; write one with a class name on each line"
        )


def _name_files(folder: Path) -> list[Path]:
    folders = [folder, *folders_named(folder, ("labels",))]
    return [p / name for p in folders for name in NAME_FILES if (p / name).is_file()][:1]


def _images(folder: Path) -> Path:
    return folders_named(folder, ("images",))[0]


def _is_pair(folder: Path) -> bool:
    return all(folders_named(folder, (name,)) for name in ("images", "labels"))


def _is_flat(folder: Path) -> bool:
    """Check whether some image has a label file beside it."""
    stems = {path.stem for path in files_in(folder, ".txt")}
    return any(path.stem in stems for path in files_in(folder, *IMAGE_SUFFIXES))


def _split_folders(folder: Path) -> dict[str, Path]:
    below = [(split_of_name(p.name), p) for p in subfolders(folder)]
    return one_of_each((split, p) for split, p in below if _is_pair(p) or _is_flat(p))


def _image_files(folder: Path) -> list[Path]:
    if _is_pair(folder):
        return list_images(_images(folder))
    return files_in(folder, *IMAGE_SUFFIXES)


def _by_split(images: Path, warnings: list[str]) -> dict[str, list[Path]]:
    folders = subfolders(images)
    splits = {split: p for p in folders if (split := split_of([p.name]))}
    skipped = [p.name for p in folders if p not in splits.values() and list_images(p)]
    if splits and (skipped or files_in(images, *IMAGE_SUFFIXES)):
        skipped += [p.name for p in files_in(images, *IMAGE_SUFFIXES)]
        named = name_some(map(printable, skipped))
        warnings.append(
            f"{printable(images)} is read from {' and '.join(p.name for p in splits.values())}; "
            f"skipped: {named}"
        )
    listed = {split: list_images(path) for split, path in splits.items()}
    return listed or {"train": list_images(images)}

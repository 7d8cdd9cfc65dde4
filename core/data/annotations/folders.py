"""Find files of one image each and the images: Pascal VOC's XML files, and LabelMe's JSON files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visiongraft.data.annotations.image_files import split_of_name
from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.data.listing import (
    FileIndex,
    files_below,
    files_in,
    folders_named,
    list_images,
    one_of_each,
    subfolders,
    year_folder,
)
from visiongraft.errors import name_some

# Names of folders in lower case; of two that exist the first is used.
ANNOTATIONS = ("annotations", "annotation", "labels", "label", "xml", "xmls")
IMAGES = ("jpegimages", "images", "image", "imgs", "img", "pictures", "photos", "data")
LISTS = "ImageSets/Main"


@dataclass(frozen=True)
class AnnotationFolders:
    """Files of one image each, and their images.

    Attributes:
        annotations: The folder of the files.
        images: The folder of the images, maybe the same.
        files: The files.
        lists: The folder of the lists that may split them.
        split: The split of all files, or ``None`` if lists or subfolders may split them.
    """

    annotations: Path
    images: Path
    files: tuple[Path, ...]
    lists: Path
    split: str | None = None


def official_folder(folder: Path) -> AnnotationFolders | None:
    """Find XML files in VOC's official folders, ``Annotations`` and ``JPEGImages``.

    Args:
        folder: The folder to search.

    Returns:
        The folders, or ``None``.
    """
    annotations, images = folder / "Annotations", folder / "JPEGImages"
    files = files_in(annotations, ".xml") if images.is_dir() else []
    return AnnotationFolders(annotations, images, tuple(files), folder / LISTS) if files else None


def find_annotation_folders(
    folder: Path, warnings: list[str], suffix: str = ".xml"
) -> list[AnnotationFolders]:
    """Find XML files, or others with one file for each image, with images.

    In this order: in two subfolders, or both in ``folder`` itself; both in each of the folders
    ``train``, ``val`` and ``test``; in the only subfolder such as ``VOC2012``.

    Args:
        folder: The folder to search.
        warnings: One line for each folder that was skipped is appended.
        suffix: Suffix of the files in lowercase.

    Returns:
        One for all files, or one for each split; empty if there are no files.

    Raises:
        DataError: Two folders belong to the same split, or there are several years of VOC.
    """
    whole = _find(folder, None, warnings, suffix)
    if whole is not None:
        used = (whole.annotations, whole.images)
        skipped = [
            p.annotations for p in _by_split(folder, [], suffix) if p.annotations not in used
        ]
        if skipped:
            warnings.append(
                f"{printable(folder)} is read from the {suffix} files in {printable(whole.annotations)};"
                f" skipped: {name_some(printable(p.relative_to(folder)) for p in skipped)}"
            )
        return [whole]
    by_split = _by_split(folder, warnings, suffix)
    one_of_each((each.split, each.annotations) for each in by_split)
    if by_split:
        return by_split
    year = year_folder(folder)
    return [] if year is None else find_annotation_folders(year, warnings, suffix)


def find_image(images: FileIndex, key: str) -> str | None:
    """Find the image of an annotation file.

    Args:
        images: The images.
        key: Path of the file below its folder, without suffix.

    Returns:
        The key of the image with the same path, or of the only one of this name unless it belongs to
        another split; ``None`` if there is none.
    """
    found = images.find(key)
    if found is None:
        return None
    own, other = (split_of_name(each.rpartition("/")[0]) for each in (key, found))
    return None if own and other and own != other else found


def _by_split(folder: Path, warnings: list[str], suffix: str) -> list[AnnotationFolders]:
    splits = [(split, p) for p in subfolders(folder) if (split := split_of_name(p.name))]
    return [found for split, p in splits if (found := _find(p, split, warnings, suffix))]


def _find(
    folder: Path, split: str | None, warnings: list[str], suffix: str
) -> AnnotationFolders | None:
    candidates = folders_named(folder, ANNOTATIONS)
    found = {p: files for p in candidates if (files := _files_below(p, suffix))}
    if found:
        annotations, *others = found
        if others:
            named = name_some(printable(p.name) for p in others)
            warnings.append(
                f"{printable(folder)} is read from {annotations.name}; {suffix} files in other folders "
                f"are skipped: {named}"
            )
        around = [p for p in folders_named(folder, IMAGES) if p != annotations]
        with_images = [p for p in around if list_images(p)]
        if len(with_images) > 1:
            named = name_some(printable(p.name) for p in with_images[1:])
            warnings.append(
                f"the images of {printable(annotations)} are read from {with_images[0].name}; other "
                f"folders are skipped: {named}"
            )
        images = next(iter([*with_images, *around[:1]]), folder)
        return AnnotationFolders(
            annotations, images, tuple(found[annotations]), folder / LISTS, split
        )
    files = files_in(folder, suffix)
    for images in (folder, *folders_named(folder, IMAGES)) if files else ():
        stems = {path.stem for path in files_in(images, *IMAGE_SUFFIXES)}
        if any(file.stem in stems for file in files):
            return AnnotationFolders(folder, images, tuple(files), folder / LISTS, split)
    return None


def _files_below(folder: Path, suffix: str) -> list[Path]:
    """List the files of a folder; those below only if it has none itself."""
    own = files_in(folder, suffix)
    return own or [p for p in files_below(folder) if p.suffix.lower() == suffix]

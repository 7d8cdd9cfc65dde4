"""Where the XML files and the images of Pascal VOC lie, in its own folders and in others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.data.listing import (
    files_below,
    files_in,
    folders_named,
    list_images,
    subfolders,
    year_folder,
)
from visiongraft.errors import name_some
from visiongraft.plugins.detection.formats.image_files import one_of_each, part_of_name

# Names of folders in small letters; of two that are there the first one counts.
ANNOTATIONS = ("annotations", "annotation", "labels", "label", "xml", "xmls")
IMAGES = ("jpegimages", "images", "image", "imgs", "img", "pictures", "photos", "data")
LISTS = "ImageSets/Main"


@dataclass(frozen=True)
class Place:
    """XML files and their images.

    Attributes:
        annotations: The folder of the XML files.
        images: That of the images, maybe the same.
        files: The XML files.
        lists: The folder of the lists that may divide them.
        part: The part that they all are of, or ``None`` if lists or folders below may divide them.
    """

    annotations: Path
    images: Path
    files: tuple[Path, ...]
    lists: Path
    part: str | None = None


@dataclass
class ImageIndex:
    """Finds the image of an XML file, in a folder and below."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    by_stem: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in list_images(self.folder) if self.folder.is_dir() else []:
            key = path.relative_to(self.folder).with_suffix("").as_posix()
            self.files[key] = path
            self.by_stem.setdefault(path.stem, []).append(key)

    def find(self, key: str) -> str | None:
        """Find an image by the name that its XML file has below its folder, or by its stem."""
        if key in self.files:
            return key
        alike = self.by_stem.get(key.rsplit("/", 1)[-1], [])
        return alike[0] if len(alike) == 1 else None


def own_place(folder: Path) -> Place | None:
    """Find XML files in VOC's own folders, ``Annotations`` and ``JPEGImages``.

    Args:
        folder: Where to look.

    Returns:
        Their place, or ``None``.
    """
    annotations, images = folder / "Annotations", folder / "JPEGImages"
    files = files_in(annotations, ".xml") if images.is_dir() else []
    return Place(annotations, images, tuple(files), folder / LISTS) if files else None


def find_places(folder: Path, warnings: list[str]) -> list[Place]:
    """Find XML files with images.

    In this order: in two folders, or both in ``folder`` itself; both in each of the folders
    ``train``, ``val`` and ``test``; in the only folder such as ``VOC2012`` below.

    Args:
        folder: Where to look.
        warnings: Takes one line on each place that was passed over.

    Returns:
        One place for all, or one for each part; none if there are none.

    Raises:
        DataError: Two folders are of the same part, or there are several years of VOC.
    """
    whole = _place(folder, None, warnings)
    if whole is not None:
        used = (whole.annotations, whole.images)
        left = [p.annotations for p in _divided(folder, []) if p.annotations not in used]
        if left:
            warnings.append(
                f"{printable(folder)} is read by the XML files in {printable(whole.annotations)}; "
                f"passed over: {name_some(printable(p.relative_to(folder)) for p in left)}"
            )
        return [whole]
    divided = _divided(folder, warnings)
    one_of_each((place.part, place.annotations) for place in divided)
    if divided:
        return divided
    year = year_folder(folder)
    return [] if year is None else find_places(year, warnings)


def _divided(folder: Path, warnings: list[str]) -> list[Place]:
    parts = [(part, p) for p in subfolders(folder) if (part := part_of_name(p.name))]
    return [place for part, p in parts if (place := _place(p, part, warnings))]


def _place(folder: Path, part: str | None, warnings: list[str]) -> Place | None:
    found = {p: files for p in folders_named(folder, ANNOTATIONS) if (files := _xml(p))}
    if found:
        annotations, *others = found
        if others:
            named = name_some(printable(p.name) for p in others)
            warnings.append(
                f"{printable(folder)} is read by {annotations.name}; XML files in other folders "
                f"are passed over: {named}"
            )
        candidates = [p for p in folders_named(folder, IMAGES) if p != annotations]
        holding = [p for p in candidates if list_images(p)]
        if len(holding) > 1:
            named = name_some(printable(p.name) for p in holding[1:])
            warnings.append(
                f"the images of {printable(annotations)} are taken from {holding[0].name}; other "
                f"folders are passed over: {named}"
            )
        images = next(iter([*holding, *candidates[:1]]), folder)
        return Place(annotations, images, tuple(found[annotations]), folder / LISTS, part)
    files = files_in(folder, ".xml")
    for images in (folder, *folders_named(folder, IMAGES)) if files else ():
        stems = {path.stem for path in files_in(images, *IMAGE_SUFFIXES)}
        if any(file.stem in stems for file in files):
            return Place(folder, images, tuple(files), folder / LISTS, part)
    return None


def _xml(folder: Path) -> list[Path]:
    """List the XML files of a folder; only if it has none itself, those below."""
    own = files_in(folder, ".xml")
    return own or [p for p in files_below(folder) if p.suffix.lower() == ".xml"]

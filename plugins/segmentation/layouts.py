"""Folders of pictures and masks: pairs of files, divided into parts as the folder says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.data.listing import PARTS, list_pictures
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.segmentation.class_files import read_classes, read_lines
from visiongraft.plugins.segmentation.masks import Colour

# fmt: off
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
    "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
    "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
ENDINGS = ("", "_L", "_mask")  # what some data sets add to the names of masks

Pair = tuple[Path, Path | tuple[Path, ...]]


@dataclass(frozen=True)
class MaskedFiles:
    """Pictures and masks as they lie in a folder.

    Attributes:
        parts: Pairs of picture and mask by ``"train"``, ``"validation"`` and ``"test"``; where
            ``several``, a picture has one mask per class. A mask may not exist.
        names: Class names in the order of the values in the masks; empty if nothing says them.
        colours: One colour per class where masks are in colour.
        several: Whether each class has a folder of masks of its own.
        warnings: One line on each thing that was passed over.
    """

    parts: dict[str, list[Pair]]
    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    several: bool = False
    warnings: tuple[str, ...] = ()


def read_folder(root: Path) -> MaskedFiles:
    """Read a folder with ``images`` and ``masks``, or one in the form of Pascal VOC.

    Args:
        root: The folder.

    Returns:
        What was found, without opening any picture or mask.

    Raises:
        DataError: It is missing, in no known form, or without pictures.
    """
    if not root.is_dir():
        raise DataError(
            f"{printable(root)} {'is no folder' if root.exists() else _MISSING}; {_HOW}"
        )
    if (root / "JPEGImages").is_dir() and (root / "SegmentationClass").is_dir():
        lists, names = root / "ImageSets" / "Segmentation", VOC_CLASSES
        return _read(root, root / "JPEGImages", root / "SegmentationClass", lists, names)
    if (root / "images").is_dir() and (root / "masks").is_dir():
        return _read(root, root / "images", root / "masks", root, ())
    raise DataError(f"{printable(root)} holds no folders images and masks; {_HOW}")


_MISSING = "does not exist"
_HOW = "give a folder with images/ and masks/, or in the form of Pascal VOC"


@dataclass
class _Finder:
    """Finds files by their names without suffix, below one folder."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    by_stem: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in list_pictures(self.folder):
            key = path.relative_to(self.folder).with_suffix("").as_posix()
            if key in self.files:
                one, other = (printable(p.name) for p in (self.files[key], path))
                raise DataError(f"{printable(path.parent)} holds both {one} and {other}")
            self.files[key] = path
            self.by_stem.setdefault(path.stem, []).append(key)

    def find(self, name: str, endings: Sequence[str] = ("",)) -> str | None:
        """Give the key of a file by its whole name, or by its last part if that is unambiguous."""
        for ending in endings:
            if name + ending in self.files:
                return name + ending
            alike = self.by_stem.get(Path(name).name + ending, [])
            if len(alike) == 1:
                return alike[0]
        return None


def _read(
    root: Path, images: Path, masks: Path, lists: Path, names: tuple[str, ...]
) -> MaskedFiles:
    pictures = _Finder(images)
    if not pictures.files:
        raise DataError(f"{printable(images)} holds no pictures")
    own, colours = read_classes(root)
    warnings: list[str] = []
    keys = _parts(pictures, lists, warnings)
    folders = _class_folders(masks, images)
    if folders:
        if own and set(own) != {folder.name for folder in folders}:
            raise DataError(
                f"classes.txt names {name_some(own)}, the folders in {printable(masks)} are "
                f"{name_some(folder.name for folder in folders)}"
            )
        by_name = {folder.name: _Finder(folder) for folder in folders}
        own = own or tuple(sorted(by_name))
        finders = [by_name[name] for name in own]
    else:
        finders = [_Finder(masks)]
    if not any(finder.files for finder in finders):
        raise DataError(f"{printable(masks)} holds no masks")
    parts: dict[str, list[Pair]] = {}
    used: list[set[str]] = [set() for _ in finders]
    for part, listed in keys.items():
        parts[part] = []
        for key in listed:
            found = tuple(_mask(f, key, u) for f, u in zip(finders, used, strict=True))
            picture = pictures.files.get(key, images / key)
            parts[part].append((picture, found if folders else found[0]))
    _warn_of_unused(finders, used, pictures, keys, warnings)
    return MaskedFiles(parts, own or names, colours, bool(folders), tuple(warnings))


def _mask(finder: _Finder, key: str, used: set[str]) -> Path:
    """Find a picture's mask; where there is none, give the name it should have."""
    found = finder.find(key, ENDINGS)
    if found is None:
        return finder.folder / f"{key}.png"
    used.add(found)
    return finder.files[found]


def _parts(pictures: _Finder, lists: Path, warnings: list[str]) -> dict[str, list[str]]:
    """Divide the pictures by lists such as ``train.txt``, else by folders such as ``train``."""
    listed: dict[str, list[str]] = {}
    for part, words in PARTS.items():
        files = [lists / f"{word}.txt" for word in words if (lists / f"{word}.txt").is_file()]
        if files:
            listed[part] = _listed(files[0], pictures, warnings)
    if listed:
        left = set(pictures.files).difference(*listed.values())
        if left:
            named = name_some(sorted(left))
            warnings.append(f"{len(left)} pictures are in no list and are passed over: {named}")
        return listed
    for key in pictures.files:
        top = key.split("/")[0].lower() if "/" in key else ""
        part = next((p for p, words in PARTS.items() if top in words), "train")
        listed.setdefault(part, []).append(key)
    return listed


def _listed(path: Path, pictures: _Finder, warnings: list[str]) -> list[str]:
    keys, missing = [], []
    for line in read_lines(path):
        name = Path(line)
        stem = name.with_suffix("") if name.suffix.lower() in IMAGE_SUFFIXES else name
        key = pictures.find(f"{path.stem}/{stem.as_posix()}") or pictures.find(stem.as_posix())
        if key is None:
            missing.append(line)
        keys.append(key or line)
    if len(missing) == len(keys):
        raise DataError(
            f"{printable(path)}: none of its {len(keys)} pictures is in {printable(pictures.folder)}"
        )
    if missing:
        named = name_some(map(printable, missing))
        warnings.append(
            f"{printable(path)} lists {len(missing)} pictures that do not exist: {named}"
        )
    return list(dict.fromkeys(keys))


def _class_folders(masks: Path, images: Path) -> list[Path]:
    """Find one folder of masks per class: those that neither mirror the pictures nor are parts."""
    words = {word for names in PARTS.values() for word in names}
    mirrored = {path.name for path in images.iterdir() if path.is_dir()}
    folders = [p for p in masks.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(p for p in folders if p.name.lower() not in words and p.name not in mirrored)


def _warn_of_unused(
    finders: Sequence[_Finder],
    used: Sequence[set[str]],
    pictures: _Finder,
    keys: dict[str, list[str]],
    warnings: list[str],
) -> None:
    passed_over = set(pictures.files).difference(*keys.values())
    for finder, seen in zip(finders, used, strict=True):
        left = sorted(key for key in finder.files if key not in seen and key not in passed_over)
        if left:
            named = name_some(left)
            warnings.append(
                f"{len(left)} masks in {printable(finder.folder)} belong to no picture: {named}"
            )

"""Folders of images and masks: pairs of files, divided into parts as the folder says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.data.listing import SPLIT_WORDS, list_images, only_folder, subfolders
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.segmentation.formats.class_files import read_classes, read_lines
from visiongraft.plugins.segmentation.formats.folders import ENDINGS, Piece, find_pieces, split_flat
from visiongraft.plugins.segmentation.formats.masks import Color

# fmt: off
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
    "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
    "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on

OF_CLASSES = ("masks", "SegmentationClass")  # folders that may hold a single class

Pair = tuple[Path, Path | tuple[Path, ...]]


@dataclass(frozen=True)
class MaskedFiles:
    """Images and masks as they lie in a folder.

    Attributes:
        splits: Pairs of image and mask by ``"train"``, ``"validation"`` and ``"test"``; where
            ``several``, an image has one mask per class. A mask may not exist.
        names: Class names in the order of the values in the masks; empty if nothing says them.
        colors: One color per class where masks are in color.
        several: Whether each class has a folder of masks of its own.
        warnings: One line on each thing that was passed over.
    """

    splits: dict[str, list[Pair]]
    names: tuple[str, ...]
    colors: tuple[Color, ...] = ()
    several: bool = False
    warnings: tuple[str, ...] = ()


def read_folder(root: Path) -> MaskedFiles:
    """Read a folder of images and masks.

    Args:
        root: The folder, or one with nothing but that in it; see ``folders.find_pieces`` for where
            they may lie.

    Returns:
        What was found, without opening any image or mask.

    Raises:
        DataError: It is missing, in no known form, or without images.
    """
    if not root.is_dir():
        problem = "is no folder" if root.exists() else "does not exist"
        raise DataError(f"{printable(root)} {problem}; {_HOW}")
    warnings: list[str] = []
    pieces = find_pieces(root, warnings)
    inner = None if pieces else only_folder(root)
    if inner is not None:
        return read_folder(inner)
    if not pieces:
        raise DataError(f"{printable(root)} holds no folders images and masks; {_HOW}")
    return _read(root, pieces, warnings)


_HOW = (
    "give a folder with images/ and masks/, with train/ and train_labels/, or in the form of "
    "Pascal VOC"
)


@dataclass
class _Finder:
    """Finds files by their names without suffix, below one folder."""

    folder: Path
    listed: Sequence[Path]
    files: dict[str, Path] = field(default_factory=dict)
    by_stem: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.listed:
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


def _read(root: Path, pieces: Sequence[Piece], warnings: list[str]) -> MaskedFiles:
    own, colors = _classes(root, pieces)
    classes = sorted({folder.name for piece in pieces for folder in _class_folders(piece)})
    if classes and own and set(own) != set(classes):
        raise DataError(
            f"classes.txt names {name_some(own)}, the folders in {printable(pieces[0].masks)} are "
            f"{name_some(classes)}"
        )
    own = own or tuple(classes)
    parts: dict[str, list[Pair]] = {}
    for piece in pieces:
        images, masks = _files(piece)
        finders = _by_class(piece, own) if classes else [masks]
        if not any(finder.files for finder in finders):
            raise DataError(f"{printable(piece.masks)} holds no masks")
        parts.update(_pairs(piece, images, finders, bool(classes), warnings))
    names = own or (VOC_CLASSES if pieces[0].voc else ())
    return MaskedFiles(parts, names, colors, bool(classes), tuple(warnings))


def _classes(root: Path, pieces: Sequence[Piece]) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Read what says the classes: files in the dataset's folder, else in those of the parts."""
    found = read_classes(root)
    if found[0]:
        return found
    by_folder = {piece.root: read_classes(piece.root) for piece in pieces}
    for folder, classes in by_folder.items():
        if classes != by_folder[pieces[0].root]:
            raise DataError(
                f"{printable(pieces[0].root)} and {printable(folder)} name different classes; keep "
                f"one of the files, in {printable(root)}"
            )
    return by_folder[pieces[0].root]


def _by_class(piece: Piece, names: Sequence[str]) -> list[_Finder]:
    below = {folder.name: list_images(folder) for folder in _class_folders(piece)}
    return [_Finder(piece.masks / name, below.get(name, [])) for name in names]


def _files(piece: Piece) -> tuple[_Finder, _Finder]:
    if piece.flat:
        images, masks = split_flat(piece.images)
        return _Finder(piece.images, images), _Finder(piece.masks, masks)
    images = list_images(piece.images)
    if not images:
        raise DataError(f"{printable(piece.images)} holds no images")
    return _Finder(piece.images, images), _Finder(piece.masks, list_images(piece.masks))


def _pairs(
    piece: Piece,
    images: _Finder,
    finders: Sequence[_Finder],
    several: bool,
    warnings: list[str],
) -> dict[str, list[Pair]]:
    """Give each image its mask, by part."""
    lists = piece.root / "ImageSets" / "Segmentation" if piece.voc else piece.root
    if piece.part is None:
        keys = _parts(images, lists, warnings)
    else:
        keys = {piece.part: list(images.files)}
    ending = ""
    if piece.flat:  # a missing mask is called as the others are
        ending = next(e for e in ENDINGS[1:] if any(key.endswith(e) for key in finders[0].files))
    parts: dict[str, list[Pair]] = {}
    used: list[set[str]] = [set() for _ in finders]
    for part, listed in keys.items():
        parts[part] = []
        for key in listed:
            found = tuple(_mask(f, key, u, ending) for f, u in zip(finders, used, strict=True))
            image = images.files.get(key, piece.images / key)
            parts[part].append((image, found if several else found[0]))
    _warn_of_unused(finders, used, images, keys, warnings)
    return parts


def _mask(finder: _Finder, key: str, used: set[str], ending: str) -> Path:
    """Find an image's mask; where there is none, give the name it should have."""
    found = finder.find(key, ENDINGS)
    if found is None:
        return finder.folder / f"{key}{ending}.png"
    used.add(found)
    return finder.files[found]


def _parts(images: _Finder, lists: Path, warnings: list[str]) -> dict[str, list[str]]:
    """Divide the images by lists such as ``train.txt``, else by folders such as ``train``."""
    listed: dict[str, list[str]] = {}
    for part, words in SPLIT_WORDS.items():
        files = [lists / f"{word}.txt" for word in words if (lists / f"{word}.txt").is_file()]
        if files:
            listed[part] = _listed(files[0], images, warnings)
    if listed:
        left = set(images.files).difference(*listed.values())
        if left:
            named = name_some(sorted(left))
            warnings.append(f"{len(left)} images are in no list and are passed over: {named}")
        return listed
    for key in images.files:
        top = key.split("/")[0].lower() if "/" in key else ""
        part = next((p for p, words in SPLIT_WORDS.items() if top in words), "train")
        listed.setdefault(part, []).append(key)
    return listed


def _listed(path: Path, images: _Finder, warnings: list[str]) -> list[str]:
    keys, missing = [], []
    for line in read_lines(path):
        # Some lists are from Windows, and some name the mask behind the image.
        spellings = dict.fromkeys((line, line.replace("\\", "/"), line.split()[0]))
        key = next(filter(None, (_key(text, path.stem, images) for text in spellings)), None)
        if key is None:
            missing.append(line)
        keys.append(key or line)
    if len(missing) == len(keys):
        raise DataError(
            f"{printable(path)}: none of its {len(keys)} images is in {printable(images.folder)}"
        )
    if missing:
        named = name_some(map(printable, missing))
        warnings.append(f"{printable(path)} lists {len(missing)} images that do not exist: {named}")
    return list(dict.fromkeys(keys))


def _key(line: str, part: str, images: _Finder) -> str | None:
    name = Path(line)
    stem = name.with_suffix("") if name.suffix.lower() in IMAGE_SUFFIXES else name
    return images.find(f"{part}/{stem.as_posix()}") or images.find(stem.as_posix())


def _class_folders(piece: Piece) -> list[Path]:
    """Find one folder of masks per class: those that neither mirror the images nor are parts."""
    if piece.flat:
        return []
    words = {word for names in SPLIT_WORDS.values() for word in names}
    mirrored = {path.name for path in subfolders(piece.images)}
    found = [
        path
        for path in subfolders(piece.masks)
        if path.name.lower() not in words and path.name not in mirrored
    ]
    if piece.masks.name in OF_CLASSES:
        return found
    holding = [path for path in found if list_images(path)]
    return holding if len(holding) > 1 else []  # a single one says no more than its folder


def _warn_of_unused(
    finders: Sequence[_Finder],
    used: Sequence[set[str]],
    images: _Finder,
    keys: dict[str, list[str]],
    warnings: list[str],
) -> None:
    passed_over = set(images.files).difference(*keys.values())
    for finder, seen in zip(finders, used, strict=True):
        left = sorted(key for key in finder.files if key not in seen and key not in passed_over)
        if left:
            named = name_some(left)
            warnings.append(
                f"{len(left)} masks in {printable(finder.folder)} belong to no image: {named}"
            )

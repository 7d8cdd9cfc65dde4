"""Which folders of a dataset hold its images, and which their masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable
from visiongraft.data.listing import (
    SPLIT_WORDS,
    files_below,
    files_in,
    folders_named,
    is_image,
    subfolders,
    year_folder,
)
from visiongraft.errors import DataError, name_some

# Names of folders in small letters; of two that are there the first one counts. A part's name may
# be before or behind them, as in train_labels, trainannot and masks_val.
IMAGES = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "pictures", "photos")
# fmt: off
MASKS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annot", "annots", "ann_dir",
    "segmentationclass", "gt", "ground_truth", "groundtruth", "seg", "segmentations",
)
# fmt: on
ENDINGS = ("", "_L", "_mask", "_label", "_labels", "_gt", "_seg")  # of the names of masks


@dataclass(frozen=True)
class Piece:
    """Images and their masks.

    Attributes:
        root: The folder of files that say something about them: names of classes, lists.
        images: The folder of the images.
        masks: That of the masks; if it is the same, the ends of the names tell them apart.
        part: The part that they all are of, or ``None`` if lists or folders may divide them.
        voc: Whether they are in the form of Pascal VOC.
    """

    root: Path
    images: Path
    masks: Path
    part: str | None = None
    voc: bool = False

    @property
    def flat(self) -> bool:
        """Whether images and masks lie in one folder."""
        return self.images == self.masks


def find_pieces(root: Path, warnings: list[str]) -> list[Piece]:
    """Find images and masks.

    In this order: in two folders; in each of the folders ``train``, ``val`` and ``test``; in two
    folders for each part, side by side; all in ``root`` itself; in the only folder such as
    ``VOC2012`` below.

    Args:
        root: Where to look.
        warnings: Takes a line on folders that were passed over.

    Returns:
        One piece for all, or one for each part; none if there are none.

    Raises:
        DataError: Two folders are of the same part, or there are several years of VOC.
    """
    ways = [_whole(root, warnings), _by_part(root, warnings), _side_by_side(root)]
    found = [pieces for pieces in ways if pieces]
    if found:
        chosen, *others = found
        _refuse_twice(chosen)
        _name_others(root, chosen, [p for pieces in others for p in pieces], warnings)
        return chosen
    if split_flat(root)[1]:
        return [Piece(root, root, root)]
    year = year_folder(root)
    return [] if year is None else find_pieces(year, warnings)


def split_flat(folder: Path) -> tuple[list[Path], list[Path]]:
    """Tell images and masks in one folder apart: a mask is called like an image, with an ending.

    Args:
        folder: Where they are.

    Returns:
        Images and masks.
    """
    files = files_in(folder, *IMAGE_SUFFIXES)
    stems = {path.stem for path in files}
    images: list[Path] = []
    masks: list[Path] = []
    for path in files:
        ends = [end for end in ENDINGS[1:] if path.stem.endswith(end)]
        is_mask = any(path.stem.removesuffix(end) in stems for end in ends)
        (masks if is_mask else images).append(path)
    return images, masks


def _whole(root: Path, warnings: list[str]) -> list[Piece]:
    images, masks = _holding(root, IMAGES), _holding(root, MASKS)
    own = root / "JPEGImages", root / "SegmentationClass"
    voc = own[0].is_dir() and own[1].is_dir()
    if voc:  # whatever else is there
        images = [own[0], *(path for path in images if path != own[0])]
        masks = [own[1], *(path for path in masks if path != own[1])]
    if not images or not masks:
        return []
    left = [printable(path.name) for path in (*images[1:], *masks[1:])]
    if left:
        warnings.append(
            f"{printable(root)} is read by {images[0].name} and {masks[0].name}; passed over: "
            f"{name_some(left)}"
        )
    return [Piece(root, images[0], masks[0], voc=voc)]


def _holding(root: Path, names: Sequence[str]) -> list[Path]:
    """Find the folders that hold images; if none of them does, the first one."""
    found = folders_named(root, names)
    return [path for path in found if _holds_images(path)] or found[:1]


def _holds_images(folder: Path) -> bool:
    return any(is_image(path) for path in files_below(folder))


def _by_part(root: Path, warnings: list[str]) -> list[Piece]:
    pieces = []
    for part, folder in _part_folders(root):
        found = _whole(folder, warnings)
        if not found and split_flat(folder)[1]:
            found = [Piece(folder, folder, folder)]
        pieces += [replace(piece, part=part) for piece in found]
    return pieces


def _part_folders(root: Path) -> list[tuple[str, Path]]:
    named = [(_words(folder.name), folder) for folder in subfolders(root)]
    return [(part, folder) for (part, rest), folder in named if part is not None and not rest]


def _side_by_side(root: Path) -> list[Piece]:
    images: dict[str, list[Path]] = defaultdict(list)
    masks: dict[str, list[Path]] = defaultdict(list)
    for folder in subfolders(root):
        part, rest = _words(folder.name)
        if part is not None and (not rest or rest in IMAGES):
            images[part].append(folder)
        elif part is not None and rest in MASKS:
            masks[part].append(folder)
    return [
        Piece(root, one, other, part)
        for part in images
        for one in images[part]
        for other in masks[part]
    ]


def _words(name: str) -> tuple[str | None, str]:
    """Cut the part out of a folder's name, at its beginning or end; gives it and the rest."""
    small = name.lower()
    known = {"", *IMAGES, *MASKS}
    for part, words in SPLIT_WORDS.items():
        for word in words:
            for rest in (small.removeprefix(word), small.removesuffix(word)):
                if rest != small and rest.strip("_- .") in known:
                    return part, rest.strip("_- .")
    return None, small


def _name_others(
    root: Path, chosen: Sequence[Piece], others: Sequence[Piece], warnings: list[str]
) -> None:
    """Say what could have been meant too."""
    used = " and ".join(printable(piece.masks.relative_to(root)) for piece in chosen)
    left = [printable(piece.masks.relative_to(root)) for piece in others]
    if chosen[0].part is not None:
        parts = {piece.part for piece in chosen}
        left += [f.name for p, f in _part_folders(root) if p not in parts and _holds_images(f)]
        lists = [f"{word}.txt" for words in SPLIT_WORDS.values() for word in words]
        left += [name for name in lists if (root / name).is_file()]
    if left:
        warnings.append(
            f"{printable(root)} is read by the masks in {used}; passed over: {name_some(left)}"
        )


def _refuse_twice(pieces: Sequence[Piece]) -> None:
    seen: dict[str | None, Piece] = {}
    for piece in pieces:
        other = seen.setdefault(piece.part, piece)
        if other is not piece:
            one, two = (f"{printable(p.images)} with {p.masks.name}" for p in (other, piece))
            raise DataError(
                f"{one} and {two} are both of the {piece.part} part; give one of them, or a pair "
                "(training, validation)"
            )

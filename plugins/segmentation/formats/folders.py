"""Find the folders of a dataset that contain its images and masks."""

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
    one_of_each,
    subfolders,
    year_folder,
)
from visiongraft.errors import name_some

# Folder names in lower case, preferred ones first. A split name may precede or follow them, as in
# train_labels, trainannot and masks_val.
IMAGES = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "pictures", "photos")
# fmt: off
MASKS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annot", "annots", "ann_dir",
    "segmentationclass", "gt", "ground_truth", "groundtruth", "seg", "segmentations",
)
# fmt: on
MASK_SUFFIXES = ("", "_L", "_mask", "_label", "_labels", "_gt", "_seg")  # after the image's stem


@dataclass(frozen=True)
class FolderPair:
    """A folder of images and the folder of their masks.

    Attributes:
        root: The folder of files about them: class names, lists of splits.
        images: The folder of the images.
        masks: The folder of the masks; if it is the same, file name suffixes distinguish them.
        split: Their split, or ``None`` if lists or subfolders may define splits.
        voc: Whether the layout is that of Pascal VOC.
    """

    root: Path
    images: Path
    masks: Path
    split: str | None = None
    voc: bool = False

    @property
    def flat(self) -> bool:
        """Whether images and masks share one folder."""
        return self.images == self.masks


def find_folders(root: Path, warnings: list[str]) -> list[FolderPair]:
    """Find the folders of images and masks.

    Layouts are tried in this order: two folders; two folders in each of ``train``, ``val`` and
    ``test``; two folders per split, side by side; everything in ``root`` itself; a single folder
    such as ``VOC2012`` below.

    Args:
        root: The dataset's folder.
        warnings: Receives a line about ignored folders.

    Returns:
        One pair of folders, or one per split; empty if there are none.

    Raises:
        DataError: Two pairs belong to the same split, or there are several years of VOC.
    """
    layouts = [_two_folders(root, warnings), _by_split(root, warnings), _side_by_side(root)]
    found = [pairs for pairs in layouts if pairs]
    if found:
        chosen, *others = found
        one_of_each(
            ((pair.split, pair) for pair in chosen), lambda p: f"{p.images} with {p.masks.name}"
        )
        _warn_of_ignored(root, chosen, [pair for pairs in others for pair in pairs], warnings)
        return chosen
    if separate_masks(root)[1]:
        return [FolderPair(root, root, root)]
    year = year_folder(root)
    return [] if year is None else find_folders(year, warnings)


def separate_masks(folder: Path) -> tuple[list[Path], list[Path]]:
    """Separate images and masks in one folder: a mask has an image's stem and a suffix.

    Args:
        folder: The folder.

    Returns:
        Images and masks.
    """
    files = files_in(folder, *IMAGE_SUFFIXES)
    stems = {path.stem for path in files}
    images: list[Path] = []
    masks: list[Path] = []
    for path in files:
        suffixes = [suffix for suffix in MASK_SUFFIXES[1:] if path.stem.endswith(suffix)]
        is_mask = any(path.stem.removesuffix(suffix) in stems for suffix in suffixes)
        (masks if is_mask else images).append(path)
    return images, masks


def _two_folders(root: Path, warnings: list[str]) -> list[FolderPair]:
    images, masks = _folders_with_images(root, IMAGES), _folders_with_images(root, MASKS)
    own = root / "JPEGImages", root / "SegmentationClass"
    voc = own[0].is_dir() and own[1].is_dir()
    if voc:  # takes precedence over other names
        images = [own[0], *(path for path in images if path != own[0])]
        masks = [own[1], *(path for path in masks if path != own[1])]
    if not images or not masks:
        return []
    left = [printable(path.name) for path in (*images[1:], *masks[1:])]
    if left:
        warnings.append(
            f"{printable(root)}: using {images[0].name} and {masks[0].name}; skipped: "
            f"{name_some(left)}"
        )
    return [FolderPair(root, images[0], masks[0], voc=voc)]


def _folders_with_images(root: Path, names: Sequence[str]) -> list[Path]:
    """Find the named folders that contain images; if none does, the first one."""
    found = folders_named(root, names)
    return [path for path in found if _contains_images(path)] or found[:1]


def _contains_images(folder: Path) -> bool:
    return any(is_image(path) for path in files_below(folder))


def _by_split(root: Path, warnings: list[str]) -> list[FolderPair]:
    pairs = []
    for split, folder in _split_folders(root):
        found = _two_folders(folder, warnings)
        if not found and separate_masks(folder)[1]:
            found = [FolderPair(folder, folder, folder)]
        pairs += [replace(pair, split=split) for pair in found]
    return pairs


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    named = [(_parse_name(folder.name), folder) for folder in subfolders(root)]
    return [(split, folder) for (split, rest), folder in named if split is not None and not rest]


def _side_by_side(root: Path) -> list[FolderPair]:
    images: dict[str, list[Path]] = defaultdict(list)
    masks: dict[str, list[Path]] = defaultdict(list)
    for folder in subfolders(root):
        split, rest = _parse_name(folder.name)
        if split is not None and (not rest or rest in IMAGES):
            images[split].append(folder)
        elif split is not None and rest in MASKS:
            masks[split].append(folder)
    return [
        FolderPair(root, one, other, split)
        for split in images
        for one in images[split]
        for other in masks[split]
    ]


def _parse_name(name: str) -> tuple[str | None, str]:
    """Return the split at the beginning or end of a folder's name, and the rest of the name."""
    lower = name.lower()
    known = {"", *IMAGES, *MASKS}
    for split, words in SPLIT_WORDS.items():
        for word in words:
            for rest in (lower.removeprefix(word), lower.removesuffix(word)):
                if rest != lower and rest.strip("_- .") in known:
                    return split, rest.strip("_- .")
    return None, lower


def _warn_of_ignored(
    root: Path, chosen: Sequence[FolderPair], others: Sequence[FolderPair], warnings: list[str]
) -> None:
    """Warn of other folders and lists that could have been meant."""
    used = " and ".join(printable(pair.masks.relative_to(root)) for pair in chosen)
    left = [printable(pair.masks.relative_to(root)) for pair in others]
    if chosen[0].split is not None:
        splits = {pair.split for pair in chosen}
        left += [f.name for s, f in _split_folders(root) if s not in splits and _contains_images(f)]
        lists = [f"{word}.txt" for words in SPLIT_WORDS.values() for word in words]
        left += [name for name in lists if (root / name).is_file()]
    if left:
        warnings.append(f"{printable(root)}: using the masks in {used}; skipped: {name_some(left)}")

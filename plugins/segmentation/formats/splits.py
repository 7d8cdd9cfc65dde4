"""Assign images to splits, by lists or by folders."""

from __future__ import annotations

from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable, read_lines
from visiongraft.data.listing import SPLIT_WORDS, FileIndex
from visiongraft.errors import DataError, name_some


def split_images(images: FileIndex, lists: Path, warnings: list[str]) -> dict[str, list[str]]:
    """Assign images to splits by lists such as ``train.txt``, otherwise by top-level folders.

    Args:
        images: The images.
        lists: The folder that may contain the lists.
        warnings: Receives lines about images that are missing or in no list.

    Returns:
        Keys of the images by ``"train"``, ``"validation"`` and ``"test"``.

    Raises:
        DataError: None of the images in a list exists.
    """
    splits: dict[str, list[str]] = {}
    for split, words in SPLIT_WORDS.items():
        files = [lists / f"{word}.txt" for word in words if (lists / f"{word}.txt").is_file()]
        if files:
            splits[split] = _read_list(files[0], images, warnings)
    if splits:
        left = set(images.files).difference(*splits.values())
        if left:
            named = name_some(sorted(left))
            warnings.append(f"{len(left)} images are in no list and are skipped: {named}")
        return splits
    for key in images.files:
        top = key.split("/")[0].lower() if "/" in key else ""
        split = next((s for s, words in SPLIT_WORDS.items() if top in words), "train")
        splits.setdefault(split, []).append(key)
    return splits


def _read_list(path: Path, images: FileIndex, warnings: list[str]) -> list[str]:
    keys, missing = [], []
    for line in read_lines(path):
        # Some lists have Windows paths, and some name the mask after the image.
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


def _key(line: str, split: str, images: FileIndex) -> str | None:
    name = Path(line)
    stem = name.with_suffix("") if name.suffix.lower() in IMAGE_SUFFIXES else name
    return images.find(f"{split}/{stem.as_posix()}") or images.find(stem.as_posix())

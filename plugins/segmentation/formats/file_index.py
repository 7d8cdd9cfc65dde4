"""Index files by relative path, and assign images to splits by lists or by folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visiongraft.data.decode import IMAGE_SUFFIXES, printable, read_lines
from visiongraft.data.listing import SPLIT_WORDS
from visiongraft.errors import DataError, name_some


@dataclass
class FileIndex:
    """The files below one folder, by relative path without suffix.

    Attributes:
        folder: The folder.
        listed: Files below it.
        files: The files by their key: the relative path without suffix.
        by_stem: Keys by the last part of the path.
    """

    folder: Path
    listed: Sequence[Path]
    files: dict[str, Path] = field(default_factory=dict)
    by_stem: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.listed:
            key = path.relative_to(self.folder).with_suffix("").as_posix()
            if key in self.files:
                one, other = (printable(p.name) for p in (self.files[key], path))
                raise DataError(f"{printable(path.parent)} contains both {one} and {other}")
            self.files[key] = path
            self.by_stem.setdefault(path.stem, []).append(key)

    def find(self, name: str, suffixes: Sequence[str] = ("",)) -> str | None:
        """Return the key of a file by its relative path, or by its stem if that is unique.

        Args:
            name: Relative path without file suffix.
            suffixes: What may follow the name, preferred ones first.
        """
        for suffix in suffixes:
            if name + suffix in self.files:
                return name + suffix
            alike = self.by_stem.get(Path(name).name + suffix, [])
            if len(alike) == 1:
                return alike[0]
        return None


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

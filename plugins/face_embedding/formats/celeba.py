"""CelebA by its official files: identities, partition and attributes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable
from visiongraft.data.readers import DataReader, DataSplits
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError

IDENTITIES = "identity_CelebA.txt"
PARTITION = "list_eval_partition.txt"
ATTRIBUTES = "list_attr_celeba.txt"
LANDMARKS = "list_landmarks_align_celeba.txt"
IMAGES = "img_align_celeba"
FOLDERS = ("", "Anno", "Eval", "Img")  # as it is unpacked, or all in one place
PARTS = {"0": "train", "1": "validation", "2": "test"}


def is_celeba(root: Path) -> bool:
    """Say whether a folder holds CelebA's identities."""
    return find_file(root, IDENTITIES) is not None


def find_file(root: Path, name: str) -> Path | None:
    """Find one of CelebA's files or folders, or nothing."""
    return next((p for f in FOLDERS if (p := root / f / name).exists()), None)


def read_identities(root: Path) -> dict[str, list[tuple[Path, str]]]:
    """Read images and identities.

    Args:
        root: Holds ``identity_CelebA.txt``, ``list_eval_partition.txt`` and ``img_align_celeba``.

    Returns:
        By part, images with the name of the identity; without a partition file all is
        ``"train"``.

    Raises:
        DataError: A file is missing or damaged.
    """
    images = _needed(root, IMAGES)
    part_of = _partition(root)
    found: dict[str, list[tuple[Path, str]]] = {}
    for name, words in _rows(_needed(root, IDENTITIES), 1):
        part = part_of.get(name, "train") if part_of else "train"
        found.setdefault(part, []).append((images / name, words[0]))
    return found


class CelebaAttributes(DataReader):
    """CelebA's 40 attributes, such as ``Smiling``, as labels of tasks that learn any number of them.

    It is asked for by name: ``"celeba_attributes:FOLDER"``.
    """

    name = "celeba_attributes"
    targets = "labels"

    def claims(self, data: Any) -> bool:
        """Claim nothing: a folder of CelebA may as well be meant by its identities."""
        return False

    def read(self, data: Any) -> DataSplits:
        """Read the attributes.

        Args:
            data: The folder.

        Returns:
            Images by part, each with the attributes that it has.

        Raises:
            DataError: A file is missing or damaged.
        """
        root = Path(data)
        images, table = _needed(root, IMAGES), _needed(root, ATTRIBUTES)
        names = _attribute_names(table)
        part_of = _partition(root)
        found: dict[str, tuple[list[Path], list[tuple[str, ...]]]] = {}
        for name, words in _rows(table, len(names), skip=2):
            paths, targets = found.setdefault(part_of.get(name, "train"), ([], []))
            paths.append(images / name)
            targets.append(tuple(n for n, w in zip(names, words, strict=True) if w == "1"))
        parts = {part: FileSamples(*both) for part, both in found.items()}
        return DataSplits(dict(parts), tuple(sorted(names)))


def read_celeba_landmarks(root: Path) -> dict[Path, tuple[float, ...]]:
    """Read the five landmarks of the images, if their file is there.

    Args:
        root: CelebA's folder.

    Returns:
        Ten numbers for each image: x and y of eyes, nose and corners of the mouth, in pixels.
    """
    table, images = find_file(root, LANDMARKS), find_file(root, IMAGES)
    if table is None or images is None:
        return {}
    try:
        return {images / n: tuple(map(float, w)) for n, w in _rows(table, 10, skip=2)}
    except ValueError as error:
        raise DataError(f"{printable(table)} is damaged: {error}") from error


def _partition(root: Path) -> dict[str, str]:
    path = find_file(root, PARTITION)
    if path is None:
        return {}
    part_of = {}
    for name, (word,) in _rows(path, 1):
        if word not in PARTS:
            raise DataError(f"{printable(path)}: part {word!r} of {name} is none of 0, 1, 2")
        part_of[name] = PARTS[word]
    return part_of


def _needed(root: Path, name: str) -> Path:
    path = find_file(root, name)
    if path is None:
        raise DataError(f"{printable(root)} lacks CelebA's {name}; put it into that folder")
    return path


def _attribute_names(table: Path) -> list[str]:
    lines = _text(table).splitlines()
    names = lines[1].split() if len(lines) > 2 else []
    if not names:
        raise DataError(f"{printable(table)} has no line with the names of the attributes")
    return names


def _rows(path: Path, count: int, skip: int = 0) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(_text(path).splitlines()[skip:], skip + 1):
        name, *words = line.split() or [""]
        if not name:
            continue
        if len(words) != count:
            raise DataError(
                f"{printable(path)}, line {number}: {len(words)} values after the image's name, "
                f"not {count}"
            )
        yield name, words


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{printable(path)} cannot be read as text: {error}") from error

"""Read CelebA from its official files: identities, partition, attributes and landmarks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable, read_text
from visiongraft.data.manifest import images_listed_twice, missing_files
from visiongraft.data.names import find_listed
from visiongraft.data.readers import DataReader, DataSplits
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import DataError, name_some, one_line

IDENTITIES = "identity_CelebA.txt"
PARTITION = "list_eval_partition.txt"
ATTRIBUTES = "list_attr_celeba.txt"
LANDMARKS = "list_landmarks_align_celeba.txt"
IMAGES = "img_align_celeba"
FOLDERS = ("", "Anno", "Eval", "Img")  # as unpacked, or all in one folder
SPLIT_OF_CODE = {"0": "train", "1": "validation", "2": "test"}


def is_celeba(root: Path) -> bool:
    """Check whether a folder contains CelebA's identities."""
    return find_file(root, IDENTITIES) is not None


def find_file(root: Path, name: str) -> Path | None:
    """Return the path of one of CelebA's files or folders, or ``None``."""
    return next((p for f in FOLDERS if (p := root / f / name).exists()), None)


def read_identities(root: Path, warnings: list[str]) -> dict[str, list[tuple[Path, str]]]:
    """Read images and identities.

    Args:
        root: Folder with ``identity_CelebA.txt``, ``list_eval_partition.txt`` and
            ``img_align_celeba``.
        warnings: Receives lines about images that are listed twice, do not exist or have no split.

    Returns:
        The images and their identities by split; without a partition file all are ``"train"``.

    Raises:
        DataError: A file is missing or malformed, none of the images exists, or an image is listed
            with two identities.
    """
    images, table = _require(root, IMAGES), _require(root, IDENTITIES)
    identities = _by_name(table, _rows(table, 1), warnings)
    split_of = _partition(root)
    found: dict[str, list[tuple[Path, str]]] = {}
    for name, (identity,) in identities.items():
        file = find_listed(images, name) or images / name
        found.setdefault(split_of.get(name, "train"), []).append((file, identity))
    files = [str(file) for rows in found.values() for file, _ in rows]
    if files:
        warnings += missing_files(printable(table), images, files)
    without = [name for name in identities if name not in split_of] if split_of else []
    if without:
        warnings.append(
            f"{PARTITION} lacks {len(without)} images, which are used for training: "
            f"{name_some(map(printable, without))}"
        )
    return found


class CelebaAttributes(DataReader):
    """CelebA's 40 attributes, such as ``Smiling``, as labels of multi-label tasks.

    Users select this reader by name: ``"celeba_attributes:FOLDER"``.
    """

    name = "celeba_attributes"
    targets = "labels"

    def claims(self, data: Any) -> bool:
        """Return False: the folder of CelebA could equally be read by its identities."""
        return False

    def read(self, data: Any) -> DataSplits:
        """Read the attributes.

        Args:
            data: The folder of CelebA.

        Returns:
            Images by split, each with the attributes that it has.

        Raises:
            DataError: A file is missing or malformed.
        """
        root = Path(data)
        images, table = _require(root, IMAGES), _require(root, ATTRIBUTES)
        names = _attribute_names(table)
        split_of = _partition(root)
        found: dict[str, tuple[list[Path], list[tuple[str, ...]]]] = {}
        warnings: list[str] = []
        for name, words in _by_name(table, _rows(table, len(names), skip=2), warnings).items():
            paths, targets = found.setdefault(split_of.get(name, "train"), ([], []))
            paths.append(find_listed(images, name) or images / name)
            targets.append(tuple(n for n, w in zip(names, words, strict=True) if w == "1"))
        splits: dict[str, Samples] = {split: FileSamples(*both) for split, both in found.items()}
        return DataSplits(splits, tuple(sorted(names)), tuple(warnings))


def read_celeba_landmarks(root: Path) -> dict[Path, tuple[float, ...]]:
    """Read the five landmarks of the images, if their file exists.

    Args:
        root: The folder of CelebA.

    Returns:
        Ten numbers for each image: x and y of the eyes, the nose and the corners of the mouth, in
        pixels; empty without the file.

    Raises:
        DataError: The file is malformed.
    """
    table, images = find_file(root, LANDMARKS), find_file(root, IMAGES)
    if table is None or images is None:
        return {}
    try:
        return {
            find_listed(images, n) or images / n: tuple(map(float, w))
            for n, w in _rows(table, 10, skip=2)
        }
    except ValueError as error:
        raise DataError(f"{printable(table)} is malformed: {one_line(error)}") from error


def _by_name(
    table: Path, rows: Iterable[tuple[str, list[str]]], warnings: list[str]
) -> dict[str, list[str]]:
    """Return the values of each image; an image may be listed twice with the same values."""
    found: dict[str, list[str]] = {}
    repeated = []
    for name, words in rows:
        if name in found:
            repeated.append(printable(name))
        if found.setdefault(name, words) != words:
            raise DataError(
                f"{printable(table)}: {printable(name)} is listed twice, with different values "
                f"({found[name][0]} and {words[0]}); keep one of the lines"
            )
    if repeated:
        warnings.append(images_listed_twice(printable(table), repeated))
    return found


def _partition(root: Path) -> dict[str, str]:
    path = find_file(root, PARTITION)
    if path is None:
        return {}
    split_of = {}
    for name, (code,) in _rows(path, 1):
        if code not in SPLIT_OF_CODE:
            raise DataError(
                f"{printable(path)}: split {code[:40]!r} of {printable(name)} is none of 0, 1, 2"
            )
        split_of[name] = SPLIT_OF_CODE[code]
    return split_of


def _require(root: Path, name: str) -> Path:
    path = find_file(root, name)
    if path is None:
        raise DataError(f"{printable(root)} lacks CelebA's {name}; add it to that folder")
    return path


def _attribute_names(table: Path) -> list[str]:
    lines = read_text(table).splitlines()
    names = lines[1].split() if len(lines) > 2 else []
    if not names:
        raise DataError(f"{printable(table)} has no line with the attribute names")
    return names


def _rows(path: Path, count: int, skip: int = 0) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(read_text(path).splitlines()[skip:], skip + 1):
        name, *words = line.split() or [""]
        if not name:
            continue
        if len(words) != count:
            raise DataError(
                f"{printable(path)}, line {number}: {len(words)} values after the image name, "
                f"not {count}"
            )
        yield name, words

"""Read the text files of Labeled Faces in the Wild: pairs of images in folds, lists of people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from visiongraft.data.decode import printable, read_text
from visiongraft.data.labels import class_name
from visiongraft.data.parsing import parse_number
from visiongraft.errors import DataError, name_some

PAIR_FILES = ("pairs.txt", "pairsDevTest.txt")
SPLIT_FILES = {
    "train": ("people_train.txt", "peopleDevTrain.txt"),
    "validation": ("people_val.txt", "peopleDevTest.txt"),
    "test": ("people_test.txt",),
}
PEOPLE = "people.txt"
LISTS = (*PAIR_FILES, *(name for names in SPLIT_FILES.values() for name in names), PEOPLE)

Image = tuple[str, int]  # name of the person, one-based number of the image


@dataclass(frozen=True)
class NamedPair:
    """Two images to compare.

    Attributes:
        first: Person and number of the first image.
        second: Person and number of the second image.
        fold: Zero-based fold of the pair.
    """

    first: Image
    second: Image
    fold: int


def read_pairs(path: Path) -> list[NamedPair]:
    """Read a list of pairs.

    The first line has the number of folds and the number of pairs of each kind per fold, or only
    the latter. A line ``NAME 1 4`` is a pair of images of one person, ``NAME 1 OTHER 2`` of two.

    Args:
        path: A file in the format of LFW's ``pairs.txt``.

    Returns:
        The pairs, in the order of the file, which lists one fold after the other.

    Raises:
        DataError: The file has another format, or another number of pairs than its first line says.
    """
    lines = list(_lines(path))
    header = lines[0][1] if lines else []
    numbers = [n for word in header if (n := parse_number(word)) is not None]
    if not 1 <= len(header) <= 2 or len(numbers) < len(header):
        raise DataError(
            f"{printable(path)} does not begin with the numbers of folds and of pairs per fold, "
            "as LFW's pairs.txt does"
        )
    folds, each = (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])
    if len(lines) - 1 != 2 * folds * each:
        raise DataError(
            f"{printable(path)} contains {len(lines) - 1} pairs, but its first line announces "
            f"{folds} folds of {each} pairs of one person and {each} of two"
        )
    return [
        NamedPair(*_pair(path, number, words), fold=i // (2 * each))
        for i, (number, words) in enumerate(lines[1:])
    ]


def read_people(path: Path, known: set[str], warnings: list[str]) -> list[str]:
    """Read a list of people.

    Args:
        path: A file with one person per line, optionally followed by the number of images; lines
            with only a number are counts of the people that follow, as in LFW's ``people.txt``.
        known: The people with images.
        warnings: Receives a line about people without images, which are left out.

    Returns:
        The names in the list.

    Raises:
        DataError: The list is empty, or none of its people has an image.
    """
    names = [
        words[0]
        for _, words in _lines(path)
        if words[0] in known or not (len(words) == 1 and words[0].isdecimal())
    ]
    missing = [name for name in names if name not in known]
    if len(missing) == len(names):
        what = f"{missing[0]!r}, who has no image" if missing else "nobody"
        raise DataError(f"{printable(path)} lists {what}; does it belong to these images?")
    if missing:
        warnings.append(
            f"{printable(path)} lists {len(missing)} people without images, who are left out: "
            f"{name_some(map(printable, missing))}"
        )
    return [name for name in names if name in known]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split("\t") if "\t" in line else line.split()
        words = [class_name(word.strip()) for word in words if word.strip()]
        if words:
            yield number, words


def _pair(path: Path, number: int, words: list[str]) -> tuple[Image, Image]:
    if len(words) == 3:
        words = [words[0], words[1], words[0], words[2]]
    numbers = [n for word in words[1::2] if (n := parse_number(word)) is not None]
    if len(words) != 4 or len(numbers) < 2:
        raise DataError(
            f"{printable(path)}, line {number}: a pair must be NAME 1 2 or NAME 1 OTHER 2, with "
            "the numbers of the images"
        )
    first, second = (words[0], numbers[0]), (words[2], numbers[1])
    if first == second:
        raise DataError(f"{printable(path)}, line {number}: a pair must be of two images, not one")
    return first, second

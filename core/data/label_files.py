"""Read images whose labels are in tables or text lists next to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from visiongraft.data.decode import SMALL_FILE_BYTES, printable, read_lines
from visiongraft.data.folder import LabeledSplits, has_class_folders
from visiongraft.data.labels import LabelMap, class_name
from visiongraft.data.listing import SPLIT_WORDS, files_in, folders_named
from visiongraft.data.manifest import (
    MANIFEST_SUFFIXES,
    find_base,
    images_listed_twice,
    missing_files,
    read_manifest,
)
from visiongraft.data.names import find_listed
from visiongraft.data.parsing import parse_number, show_value
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some

CLASSES = "classes.txt"


def read_list(path: Path) -> LabeledSplits:
    """Read a text list of images, such as ImageNet's.

    Args:
        path: A file of lines ``path label``. A label is a class name; or the zero-based index of a
            name in ``classes.txt`` next to the list, which has one name per line. Paths are
            relative to the folder of the list, or see ``manifest.find_base``; and see
            ``names.spellings``.

    Returns:
        The files, all in the training split; class names in the order of ``classes.txt`` if it
        exists, otherwise sorted.

    Raises:
        DataError: The list is malformed, or contains a label that is not in ``classes.txt``.
    """
    shown = printable(path)
    classes = path.parent / CLASSES
    lines = read_lines(classes, SMALL_FILE_BYTES) if classes.is_file() else []
    try:
        names = LabelMap(tuple(map(class_name, lines))).names
    except DataError as error:
        raise DataError(f"{printable(classes)}: {error}") from None
    rows: list[tuple[str, str, str]] = []
    for number, line in enumerate(read_lines(path), 1):
        name, _, label = line.rpartition(" ") if "\t" not in line else line.rpartition("\t")
        entry = f"{shown}, entry {number}"
        if not name.strip():
            raise DataError(f"{entry}: {line[:40]!r} is not an image path followed by a label")
        rows.append((entry, name.strip(), _label(label, names, entry)))
    if not rows:
        raise DataError(f"{shown} lists no images")
    base = find_base(path, [name for _, name, _ in rows])
    listed: dict[Path, str] = {}
    repeated: list[str] = []
    for entry, name, label in rows:
        file = find_listed(base, name) or base / name
        if file in listed:
            repeated.append(printable(name))
        if listed.setdefault(file, label) != label:
            raise DataError(f"{entry}: {printable(name)} is listed twice, with different labels")
    warnings = missing_files(shown, base, [str(file) for file in listed])
    if repeated:
        warnings.append(images_listed_twice(shown, repeated))
    files = FileSamples(tuple(listed), tuple((label,) for label in listed.values()))
    order = names or tuple(sorted(set(listed.values())))
    return LabeledSplits({"train": files}, order, tuple(warnings))


def read_indexed(root: Path) -> LabeledSplits | None:
    """Read a folder of images with one table of labels, or one table or list per split.

    Args:
        root: A folder with one table; or with one per split, such as ``train.csv`` and ``val.csv``
            or ``train.txt`` and ``val.txt``; or with a folder per split that contains images and
            one table. A test split without labels is skipped.

    Returns:
        The splits; ``None`` if the folder has class folders, or no such file.

    Raises:
        DataError: The folder has several tables that are not named after splits, or one is
            malformed.
    """
    if not root.is_dir() or has_class_folders(root):
        return None
    for suffixes in (MANIFEST_SUFFIXES, (".txt",)):
        files = files_in(root, *suffixes)
        by_split = {
            split: [file for file in files if file.stem.lower() in words]
            for split, words in SPLIT_WORDS.items()
        }
        if by_split["train"]:
            found = _read_splits(root, {split: each for split, each in by_split.items() if each})
            others = set(files).difference(*by_split.values())
            unused = sorted(p.name for p in others if not _is_about_data(p))
            if not unused:
                return found
            line = f"{printable(root)}: files without the name of a split are skipped: "
            return replace(found, warnings=(*found.warnings, line + name_some(unused)))
        if files and suffixes is MANIFEST_SUFFIXES:
            if len(files) > 1:
                raise DataError(
                    f"{printable(root)} contains the tables {name_some(f.name for f in files)}; "
                    "pass one of them, or rename them to train and val"
                )
            return read_manifest(files[0])
    tables = {split: _table_in(root, words) for split, words in SPLIT_WORDS.items()}
    if tables["train"]:
        return _read_splits(root, {split: found for split, found in tables.items() if found})
    return None


def _table_in(root: Path, words: Sequence[str]) -> list[Path]:
    """Return the only table in the folder of a split, as a list; empty if there is none."""
    for folder in folders_named(root, words):
        tables = files_in(folder, *MANIFEST_SUFFIXES)
        if len(tables) == 1:
            return tables
    return []


def _is_about_data(path: Path) -> bool:
    """Check whether a text file beside lists is no list: class names, a license, a description."""
    return path.name == CLASSES or path.stem.lower() in ("readme", "license", "labels", "names")


def _read_splits(root: Path, files: Mapping[str, Sequence[Path]]) -> LabeledSplits:
    splits: dict[str, FileSamples] = {}
    names: list[tuple[str, ...]] = []
    warnings: list[str] = []
    for split, (file, *others) in files.items():
        if others:
            both = " and ".join(f.name for f in (file, *others))
            raise DataError(f"{printable(root)}: {both} are both the {split} split; keep one")
        try:
            found = read_list(file) if file.suffix.lower() == ".txt" else read_manifest(file)
        except DataError as error:
            if split != "test":
                raise
            warnings.append(f"the test split is skipped: {error}")  # it often has no labels
            continue
        if found.splits.keys() != {"train"}:
            raise DataError(f"{printable(file)} has splits of its own; pass the table itself")
        splits[split] = found.splits["train"]
        names.append(found.names)
        warnings += found.warnings
    order = names[0] if (root / CLASSES).is_file() else sorted({n for each in names for n in each})
    return LabeledSplits(splits, tuple(order), tuple(warnings))


def _label(text: str, names: Sequence[str], entry: str) -> str:
    label = class_name(text.strip())
    if not names or label in names:
        return label
    index = parse_number(label)
    if index is not None and index < len(names):
        return names[index]
    raise DataError(f"{entry}: label {show_value(label)} is none of the {len(names)} in {CLASSES}")

"""Images whose labels are in tables or lists beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from visiongraft.data.decode import printable, read_file
from visiongraft.data.folder import LabeledFiles, LabeledSplits, has_label_folders
from visiongraft.data.labels import LabelMap
from visiongraft.data.listing import SPLIT_WORDS, files_in
from visiongraft.data.manifest import MANIFEST_SUFFIXES, find_base, missing_files, read_manifest
from visiongraft.errors import DataError, name_some

CLASSES = "classes.txt"


def read_list(path: Path) -> LabeledSplits:
    """Read a text list of images, as those of ImageNet.

    Args:
        path: A file of lines ``path label``. A label is a name; or the place, from 0, of a name in
            ``classes.txt`` beside the list, one name a line. Paths are relative to the list's
            folder, or see ``manifest.find_base``.

    Returns:
        The files, all of the training part; names in the order of ``classes.txt``, else sorted.

    Raises:
        DataError: It is damaged, or names a label that ``classes.txt`` lacks.
    """
    shown = printable(path)
    classes = path.parent / CLASSES
    names = LabelMap(tuple(_lines(classes))).names if classes.is_file() else ()
    listed: dict[str, str] = {}
    for number, line in enumerate(_lines(path), 1):
        name, _, label = line.rpartition(" ") if "\t" not in line else line.rpartition("\t")
        place = f"{shown}, entry {number}"
        if not name.strip():
            raise DataError(f"{place}: {line[:40]!r} is no image with its label")
        label = _label(label, names, place)
        if listed.setdefault(name.strip(), label) != label:
            raise DataError(f"{place}: {printable(name)} is listed twice, labeled otherwise")
    if not listed:
        raise DataError(f"{shown} lists no images")
    base = find_base(path, list(listed))
    files = LabeledFiles(
        tuple(base / name for name in listed), tuple((label,) for label in listed.values())
    )
    warnings = missing_files(shown, base, [str(file) for file in files.paths])
    order = names or tuple(sorted(set(listed.values())))
    return LabeledSplits({"train": files}, order, tuple(warnings))


def read_indexed(root: Path) -> LabeledSplits | None:
    """Read a folder of images with a table of their labels, or tables or lists of the parts.

    Args:
        root: Holds one table; or such as ``train.csv`` and ``val.csv``, or ``train.txt`` and
            ``val.txt``. Tables without labels are passed over.

    Returns:
        What was found; ``None`` if folders say the labels, or nothing does.

    Raises:
        DataError: Several tables could be meant, or one is damaged.
    """
    if not root.is_dir() or has_label_folders(root):
        return None
    for suffixes in (MANIFEST_SUFFIXES, (".txt",)):
        files = files_in(root, *suffixes)
        parts = {
            p: [f for f in files if f.stem.lower() in words] for p, words in SPLIT_WORDS.items()
        }
        named = {part: found for part, found in parts.items() if found}
        if "train" in named:
            return _read_parts(root, named)
        if files and suffixes is MANIFEST_SUFFIXES:
            if len(files) > 1:
                raise DataError(
                    f"{printable(root)} holds the tables {name_some(f.name for f in files)}; give "
                    "one of them, or call them train and val"
                )
            return read_manifest(files[0])
    return None


def _read_parts(root: Path, named: Mapping[str, Sequence[Path]]) -> LabeledSplits:
    parts: dict[str, LabeledFiles] = {}
    names: list[tuple[str, ...]] = []
    warnings: list[str] = []
    for part, (file, *others) in named.items():
        if others:
            both = " and ".join(f.name for f in (file, *others))
            raise DataError(f"{printable(root)}: {both} are both of the {part} part; keep one")
        try:
            found = read_list(file) if file.suffix.lower() == ".txt" else read_manifest(file)
        except DataError as error:
            if part != "test":
                raise
            warnings.append(f"the test part is passed over: {error}")  # often without labels
            continue
        if found.splits.keys() != {"train"}:
            raise DataError(f"{printable(file)} has parts of its own; give the table itself")
        parts[part] = found.splits["train"]
        names.append(found.names)
        warnings += found.warnings
    order = names[0] if (root / CLASSES).is_file() else sorted({n for each in names for n in each})
    return LabeledSplits(parts, tuple(order), tuple(warnings))


def _label(text: str, names: Sequence[str], place: str) -> str:
    label = text.strip()
    if not names or label in names:
        return label
    if label.isdecimal() and int(label) < len(names):
        return names[int(label)]
    raise DataError(f"{place}: label {label!r} is none of the {len(names)} in {CLASSES}")


def _lines(path: Path) -> list[str]:
    try:
        text = read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(path)} is no UTF-8 text; save it as UTF-8") from error
    return [line.strip() for line in text.splitlines() if line.strip()]

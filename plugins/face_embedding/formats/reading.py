"""Images and the identities they show, out of every form of data that the task reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable
from visiongraft.data.folder import LabeledSplits, read_folder
from visiongraft.data.images import DatasetSamples
from visiongraft.data.listing import list_images
from visiongraft.data.manifest import MANIFEST_SUFFIXES, read_manifest
from visiongraft.data.readers import SPLIT_NAMES, DataSplits
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import DataError
from visiongraft.lookup import read_data
from visiongraft.plugins.face_embedding.alignment.landmarks import (
    AlignedSamples,
    Landmarks,
    read_landmarks,
)
from visiongraft.plugins.face_embedding.formats import celeba, lfw

LANDMARKS = "landmarks.csv"  # in the folder of the data


@dataclass(frozen=True)
class IdentitySplit:
    """Images and the name of the identity that each shows."""

    samples: Samples
    names: Sequence[str]

    def subset(self, indices: Sequence[int]) -> IdentitySplit:
        """Take some, in the given order."""
        return IdentitySplit(self.samples.subset(indices), [self.names[i] for i in indices])


@dataclass(frozen=True)
class IdentityDataset:
    """A dataset as it was found.

    Attributes:
        splits: By ``"train"``, ``"validation"`` and ``"test"``, those that have images; a set
            that is not divided is all ``"train"``.
        pairs: The listed pairs, if there are any, as (name of an image, of another, fold).
        aligned: Whether the images are brought to one place by landmarks.
        warnings: One line on each thing that was passed over.
    """

    splits: dict[str, IdentitySplit]
    pairs: tuple[tuple[str, str, int], ...] = ()
    aligned: bool = False
    warnings: tuple[str, ...] = field(default=())


def find_source(data: Any, align: bool = True) -> IdentityDataset:
    """Find images and identities.

    Args:
        data: A folder with one folder per identity, with LFW's text files or without; CelebA's
            folder; a CSV, TSV or Parquet table; a map-style dataset of (image, identity); what an
            installed reader of labels reads; or a pair (training, validation) of these.
        align: Align images whose landmarks the data bring: ``landmarks.csv`` in the folder, the
            columns of a CSV, or CelebA's own file.

    Returns:
        What was found.

    Raises:
        DataError: There is nothing, or it is in no known form.
    """
    if isinstance(data, tuple):
        if len(data) != 2:
            raise DataError(f"data is one set or a pair (training, validation), not {len(data)}")
        return _joined(find_source(data[0], align), find_source(data[1], align))
    try:
        if isinstance(data, (str, Path)):
            return _read_path(Path(data), align)
        return _from_parts({"train": DatasetSamples.of(data)})
    except DataError:
        found = read_data(data, "labels")  # asked last: installing a reader changes no dataset
        if found is None:
            raise
        return _from_reader(found)


def _joined(first: IdentityDataset, second: IdentityDataset) -> IdentityDataset:
    """Take the training part of one set and the part of the other that was held out."""
    if "train" not in first.splits:
        raise DataError("the training set of the pair has no training images")
    validation = next(
        second.splits[p] for p in ("validation", "test", "train") if p in second.splits
    )
    return IdentityDataset(
        {"train": first.splits["train"], "validation": validation},
        second.pairs,
        first.aligned,
        (*first.warnings, *second.warnings),
    )


def _read_path(path: Path, align: bool) -> IdentityDataset:
    if path.suffix.lower() in MANIFEST_SUFFIXES and not path.is_dir():
        found = _from_files(read_manifest(path))
        return _aligned(found, read_landmarks(path, needed=False) if align else {})
    if path.is_file():
        raise DataError(
            f"{printable(path)} is a file of no known format; give a folder with one folder per "
            "identity, or a table (.csv, .tsv, .parquet) with the columns path and label"
        )
    if celeba.is_celeba(path):
        rows = celeba.read_identities(path)
        parts = {p: _part([f for f, _ in some], [n for _, n in some]) for p, some in rows.items()}
        found = IdentityDataset({p: parts[p] for p in SPLIT_NAMES if p in parts})
        return _aligned(found, celeba.read_celeba_landmarks(path) if align else {})
    found = _read_lists(path) or _from_files(read_folder(path))
    table = path / LANDMARKS
    return _aligned(found, read_landmarks(table) if align and table.is_file() else {})


def _part(paths: Sequence[Path], names: Sequence[str]) -> IdentitySplit:
    return IdentitySplit(FileSamples(paths, names), names)


def _from_files(found: LabeledSplits) -> IdentityDataset:
    parts = {}
    for name, files in found.splits.items():
        if not len(files):
            continue
        several = next((i for i, labels in enumerate(files.labels) if len(labels) != 1), None)
        if several is not None:
            raise DataError(
                f"{printable(files.paths[several])} has {len(files.labels[several])} identities "
                f"({', '.join(files.labels[several])}); each image shows one"
            )
        parts[name] = _part(files.paths, [labels[0] for labels in files.labels])
    return IdentityDataset(parts, warnings=found.warnings)


# ---- folders with LFW's text files ----


def _read_lists(root: Path) -> IdentityDataset | None:
    """Read a folder with lists of pairs or people; ``None`` if it has none."""
    names = [*lfw.PAIR_FILES, lfw.PEOPLE, *(n for names in lfw.PART_FILES.values() for n in names)]
    if not root.is_dir() or not any((root / name).is_file() for name in names):
        return None
    files = _people(root)
    images: dict[str, list[Path]] = {}
    for path, name in files:
        images.setdefault(name, []).append(path)
    known = set(images)
    parts = {}
    for part, choices in lfw.PART_FILES.items():
        table = next((root / c for c in choices if (root / c).is_file()), None)
        if table is not None:
            parts[part] = set(lfw.read_people(table, known))
    if not parts:
        table = root / lfw.PEOPLE
        parts["train"] = set(lfw.read_people(table, known)) if table.is_file() else known
    found = {
        part: _part([p for p, n in files if n in people], [n for _, n in files if n in people])
        for part, people in parts.items()
    }
    return IdentityDataset(found, _pairs(root, images))


def _people(root: Path) -> list[tuple[Path, str]]:
    """Find images and people: in the folder itself, or in its one folder that holds people."""
    inside = [f for f in sorted(root.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    holders = [f for f in inside if any(g.is_dir() for g in f.iterdir())]
    if len(holders) == 1 and len(inside) == 1:
        inside = [f for f in sorted(holders[0].iterdir()) if f.is_dir() and f.name[:1] != "."]
    found = [(path, printable(folder.name)) for folder in inside for path in list_images(folder)]
    if not found:
        raise DataError(f"{printable(root)} holds lists of people, but no NAME/image.jpg")
    return found


def _pairs(root: Path, images: Mapping[str, list[Path]]) -> tuple[tuple[str, str, int], ...]:
    table = next((root / name for name in lfw.PAIR_FILES if (root / name).is_file()), None)
    if table is None:
        return ()
    by_stem = {(name, path.stem): path for name, paths in images.items() for path in paths}

    def find(person: str, number: int) -> str:
        path = by_stem.get((person, f"{person}_{number:04d}"))
        if path is None:
            raise DataError(
                f"{printable(table)} names image {number} of {person!r}, but there is no "
                f"{person}/{person}_{number:04d} with the suffix of an image"
            )
        return printable(path)

    return tuple(
        (find(*pair.first), find(*pair.second), pair.fold) for pair in lfw.read_pairs(table)
    )


# ---- landmarks ----


def _aligned(source: IdentityDataset, landmarks: Mapping[Path, Landmarks]) -> IdentityDataset:
    """Align the images of a source; all of them, so that a network sees one kind of image."""
    if not landmarks:
        return source
    parts = {}
    for name, part in source.splits.items():
        assert isinstance(part.samples, FileSamples)
        without = [path for path in part.samples.paths if path not in landmarks]
        if without:
            raise DataError(
                f"{len(without)} images have no landmarks, such as {printable(without[0])}; add "
                "them, or read the images as they are with align=False"
            )
        points = tuple(landmarks[path] for path in part.samples.paths)
        parts[name] = IdentitySplit(AlignedSamples(part.samples, points), part.names)
    return IdentityDataset(parts, source.pairs, True, source.warnings)


# ---- datasets and readers ----


def _from_parts(parts: Mapping[str, Samples], names: Sequence[str] = ()) -> IdentityDataset:
    found = {}
    for part, samples in parts.items():
        if len(samples):
            own = [_identity(samples, i, names) for i in range(len(samples))]
            found[part] = IdentitySplit(samples, own)
    return IdentityDataset(found)


def _from_reader(found: DataSplits) -> IdentityDataset:
    source = _from_parts(found.splits, found.names)
    return IdentityDataset(source.splits, warnings=found.warnings)


def _identity(samples: Samples, index: int, names: Sequence[str]) -> str:
    target = samples.target(index)
    if isinstance(target, (list, tuple)) and len(target) == 1:
        target = target[0]
    if isinstance(target, Integral) and int(target) >= 0:
        number = int(target)
        return names[number] if number < len(names) else str(number)
    if isinstance(target, str) and target:
        return target
    raise DataError(
        f"{samples.name(index)}: an identity is a name or a whole number from 0, not {target!r}"
    )

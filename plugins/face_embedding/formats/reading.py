"""Read images and the identities that they show, from every format that the task supports."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable
from visiongraft.data.folder import LabeledSplits, read_folder
from visiongraft.data.images import DatasetSamples
from visiongraft.data.labels import class_name
from visiongraft.data.listing import list_images, subfolders
from visiongraft.data.manifest import MANIFEST_SUFFIXES, read_manifest
from visiongraft.data.readers import SPLIT_NAMES
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.data.splits import as_pair, join_pair
from visiongraft.errors import DataError, name_some
from visiongraft.lookup.reading import read_or_raise
from visiongraft.plugins.face_embedding.alignment.landmarks import (
    AlignedSamples,
    Landmarks,
    read_landmarks,
)
from visiongraft.plugins.face_embedding.formats import celeba, lfw

LANDMARKS = "landmarks.csv"  # in the folder of the dataset


@dataclass(frozen=True)
class IdentitySplit:
    """One split: images and the name of the identity that each shows."""

    samples: Samples
    names: Sequence[str]

    def subset(self, indices: Sequence[int]) -> IdentitySplit:
        """Return some of the samples, in the given order."""
        return IdentitySplit(self.samples.subset(indices), [self.names[i] for i in indices])


@dataclass(frozen=True)
class IdentityDataset:
    """A dataset as it was read.

    Attributes:
        splits: ``"train"``, ``"validation"`` and ``"test"``, as far as they have images; a dataset
            without splits is all ``"train"``.
        pairs: The listed pairs, if there are any, as (name of an image, of another, fold).
        aligned: Whether the images are aligned by landmarks.
        warnings: One line for each thing that was skipped.
    """

    splits: dict[str, IdentitySplit]
    pairs: tuple[tuple[str, str, int], ...] = ()
    aligned: bool = False
    warnings: tuple[str, ...] = field(default=())


def find_dataset(data: Any, align: bool = True) -> IdentityDataset:
    """Find images and identities.

    Args:
        data: A folder with one folder per identity, with or without LFW's text files; CelebA's
            folder; a CSV, TSV or Parquet table; a map-style dataset of (image, identity); anything
            that an installed reader of labels reads; or a pair (training, validation) of these.
        align: Whether to align images with landmarks: ``landmarks.csv`` in the folder, columns of
            a CSV table, or CelebA's own file.

    Returns:
        The dataset.

    Raises:
        DataError: There are no images, or the format is unknown.
    """
    pair = as_pair(data)
    if pair is not None:
        return _join(*(find_dataset(each, align) for each in pair))
    try:
        if isinstance(data, (str, Path)):
            return _read_path(Path(data), align)
        return _from_samples({"train": DatasetSamples.of(data)})
    except DataError as error:
        found = read_or_raise(data, "labels", error)
        return replace(_from_samples(found.splits, found.names), warnings=found.warnings)


def has_identity_files(path: Path) -> bool:
    """Check whether a folder contains CelebA's list of identities, or lists of LFW."""
    return celeba.is_celeba(path) or _has_lists(path)


def _join(first: IdentityDataset, second: IdentityDataset) -> IdentityDataset:
    """Join the training split of one dataset and the held-out split of another."""
    return IdentityDataset(
        join_pair(first.splits, second.splits),
        second.pairs,
        first.aligned,
        (*first.warnings, *second.warnings),
    )


def _read_path(path: Path, align: bool) -> IdentityDataset:
    if path.suffix.lower() in MANIFEST_SUFFIXES and not path.is_dir():
        found = _from_files(read_manifest(path))
        return _align(found, read_landmarks(path, required=False) if align else {})
    if path.is_file():
        raise DataError(
            f"{printable(path)} is a file of unknown format; pass a folder with one folder per "
            "identity, or a table (.csv, .tsv, .parquet) with the columns path and label"
        )
    if celeba.is_celeba(path):
        warnings: list[str] = []
        rows = celeba.read_identities(path, warnings)
        splits = {split: _split(own) for split in SPLIT_NAMES if (own := rows.get(split))}
        landmarks = celeba.read_celeba_landmarks(path) if align else {}
        return _align(IdentityDataset(splits, warnings=tuple(warnings)), landmarks)
    found = _read_lists(path) or _from_files(read_folder(path))
    table = path / LANDMARKS
    return _align(found, read_landmarks(table) if align and table.is_file() else {})


def _split(rows: Sequence[tuple[Path, str]]) -> IdentitySplit:
    paths, names = zip(*rows, strict=True) if rows else ((), ())
    return IdentitySplit(FileSamples(paths, names), names)


def _from_files(found: LabeledSplits) -> IdentityDataset:
    splits = {}
    for split, files in found.splits.items():
        if not len(files):
            continue
        several = next((i for i, labels in enumerate(files.targets) if len(labels) != 1), None)
        if several is not None:
            raise DataError(
                f"{printable(files.paths[several])} has {len(files.targets[several])} identities "
                f"({', '.join(files.targets[several])}); each image must show one"
            )
        splits[split] = _split(
            [(p, names[0]) for p, names in zip(files.paths, files.targets, strict=True)]
        )
    return IdentityDataset(splits, warnings=found.warnings)


# ---- folders with LFW's text files ----


def _has_lists(root: Path) -> bool:
    split_files = [name for names in lfw.SPLIT_FILES.values() for name in names]
    names = [*lfw.PAIR_FILES, lfw.PEOPLE, *split_files]
    return any((root / name).is_file() for name in names)


def _read_lists(root: Path) -> IdentityDataset | None:
    """Read a folder with lists of pairs or people; ``None`` if it has none."""
    if not _has_lists(root):
        return None
    files = _people(root)
    images: dict[str, list[Path]] = {}
    for path, name in files:
        images.setdefault(name, []).append(path)
    known = set(images)
    people: dict[str, set[str]] = {}
    warnings: list[str] = []
    for split, choices in lfw.SPLIT_FILES.items():
        table = next((root / c for c in choices if (root / c).is_file()), None)
        if table is not None:
            people[split] = set(lfw.read_people(table, known, warnings))
    if not people:
        table = root / lfw.PEOPLE
        people["train"] = set(lfw.read_people(table, known, warnings)) if table.is_file() else known
    found = {
        split: _split([(path, name) for path, name in files if name in own])
        for split, own in people.items()
    }
    unused = known.difference(*people.values())
    if unused:
        warnings.append(
            f"{printable(root)}: {len(unused)} people in none of the lists of people are skipped: "
            f"{name_some(map(printable, sorted(unused)))}"
        )
    pairs = _pairs(root, images, warnings)
    return IdentityDataset(found, pairs, warnings=tuple(warnings))


def _people(root: Path) -> list[tuple[Path, str]]:
    """Find images and people in the folder itself, or in its only subfolder."""
    folders = subfolders(root)
    if len(folders) == 1:
        folders = subfolders(folders[0]) or folders
    found = [(path, class_name(folder.name)) for folder in folders for path in list_images(folder)]
    if not found:
        raise DataError(f"{printable(root)} contains lists of people, but no NAME/image.jpg")
    return found


def _pairs(
    root: Path, images: Mapping[str, list[Path]], warnings: list[str]
) -> tuple[tuple[str, str, int], ...]:
    """Find the images of the listed pairs; leave pairs out of which an image is missing."""
    table = next((root / name for name in lfw.PAIR_FILES if (root / name).is_file()), None)
    if table is None:
        return ()
    by_stem = {(name, path.stem): path for name, paths in images.items() for path in paths}
    found: list[tuple[str, str, int]] = []
    missing: list[str] = []
    pairs = lfw.read_pairs(table)
    for pair in pairs:
        stems = [(person, f"{person}_{number:04d}") for person, number in (pair.first, pair.second)]
        absent = [printable("/".join(stem)) for stem in stems if stem not in by_stem]
        missing += absent
        if not absent:
            first, second = (printable(by_stem[stem]) for stem in stems)
            found.append((first, second, pair.fold))
    if missing and not found:
        raise DataError(f"{printable(table)} lists only images that do not exist, as {missing[0]}")
    if missing:
        warnings.append(
            f"{printable(table)} lists {len(pairs)} pairs; {len(pairs) - len(found)} of them are "
            f"left out, because images do not exist: {name_some(dict.fromkeys(missing))}"
        )
    return tuple(found)


# ---- landmarks ----


def _align(dataset: IdentityDataset, landmarks: Mapping[Path, Landmarks]) -> IdentityDataset:
    """Align the images of a dataset: all of them, so that the network sees one kind of image."""
    if not landmarks:
        return dataset
    known = {os.path.normpath(path): points for path, points in landmarks.items()}
    splits = {}
    for name, split in dataset.splits.items():
        assert isinstance(split.samples, FileSamples)
        paths = [os.path.normpath(path) for path in split.samples.paths]
        without = [path for path in paths if path not in known]
        if without:
            raise DataError(
                f"{len(without)} images have no landmarks, such as {printable(without[0])}; add "
                "them, or read the images without alignment by align=False"
            )
        points = tuple(known[path] for path in paths)
        splits[name] = IdentitySplit(AlignedSamples(split.samples, points), split.names)
    return replace(dataset, splits=splits, aligned=True)


# ---- datasets and readers ----


def _from_samples(splits: Mapping[str, Samples], names: Sequence[str] = ()) -> IdentityDataset:
    found = {}
    for split, samples in splits.items():
        own = [_identity(samples, i, names) for i in range(len(samples))]
        found[split] = IdentitySplit(samples, own)
    return IdentityDataset(found)


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
        f"{samples.name(index)}: an identity must be a name or a non-negative integer, not "
        f"{target!r}"
    )

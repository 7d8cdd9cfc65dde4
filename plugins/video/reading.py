"""Read labeled videos: folders of classes, lists as those of UCF101, tables, and datasets in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable, read_lines
from visiongraft.data.images import DatasetSamples, class_names_of
from visiongraft.data.labels import class_name
from visiongraft.data.listing import SPLIT_WORDS, subfolders
from visiongraft.data.manifest import MANIFEST_SUFFIXES, read_manifest
from visiongraft.data.splits import as_pair, join_pair, stratified_split
from visiongraft.data.video import find_clips
from visiongraft.errors import DataError, name_some
from visiongraft.inputs import Clips
from visiongraft.inputs.samples import InputSamples
from visiongraft.plugins.classification.reading import LabeledDataset, LabeledSplit, from_samples

CLASSES = "classInd.txt"  # of UCF101: a number from 1 and a name per line
_LISTS = {"train": "trainlist*.txt", "validation": "vallist*.txt", "test": "testlist*.txt"}
# Videos of one group show the same people in the same place.
_GROUP = re.compile(r"_g(\d+)_c\d+(\.\w+)?$")


def read_dataset(data: Any, inputs: Clips, class_names: Sequence[str] = ()) -> LabeledDataset:
    """Read videos and their labels, without decoding any.

    Args:
        data: A folder with one folder per class, of videos or folders of frames, also divided into
            ``train``, ``val`` and ``test``; a folder with the lists of UCF101 (``classInd.txt``,
            ``trainlist01.txt``, ``testlist01.txt``); a CSV or Parquet table with the columns ``path``,
            ``label`` and optionally ``split``; a map-style dataset of (clip, class); or a pair
            (training, validation) of these.
        inputs: How frames are chosen.
        class_names: Class names by id, if they are known.

    Returns:
        The dataset.

    Raises:
        DataError: There are no videos, or the format is unknown.
    """
    pair = as_pair(data)
    if pair is not None:
        first, second = (read_dataset(each, inputs, class_names) for each in pair)
        new = [name for name in second.class_names if name not in first.class_names]
        return LabeledDataset(
            join_pair(first.splits, second.splits),
            tuple(sorted([*first.class_names, *new])) if new else first.class_names,
            (*first.warnings, *second.warnings),
        )
    if not isinstance(data, (str, Path)):
        samples = DatasetSamples.of(data, array=inputs.array)
        return from_samples({"train": samples}, class_names_of(data), class_names)
    path = Path(data)
    if path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES:
        return _read_table(path, inputs)
    if not path.is_dir():
        raise DataError(
            f"{printable(path)} is neither a folder of videos nor a table; pass a folder with one "
            "folder per class"
        )
    return _read_lists(path, inputs) if (path / CLASSES).is_file() else _read_folders(path, inputs)


def with_groups_held_out(dataset: LabeledDataset, fraction: float, seed: int) -> LabeledDataset:
    """Hold groups of videos out for validation, where names tell groups and there is no such split.

    Args:
        dataset: The dataset.
        fraction: Fraction of the groups of each class to hold out, in (0, 1).
        seed: Seed of the choice.

    Returns:
        The dataset, divided if names tell groups as those of UCF101 do (``_g01_c02``).
    """
    train = dataset.splits.get("train")
    if train is None or "validation" in dataset.splits:
        return dataset
    names = [train.samples.name(i) for i in range(len(train.samples))]
    found = [_GROUP.search(name) for name in names]
    if not all(found):
        return dataset
    keys = [(labels, match[1]) for labels, match in zip(train.labels, found, strict=True) if match]
    groups = sorted(set(keys))
    _, held = stratified_split([labels for labels, _ in groups], fraction, seed)
    validation = {groups[i] for i in held}
    if not validation:
        line = "each class has one group of videos, so validation videos are of the same groups"
        return replace(dataset, warnings=(*dataset.warnings, line))
    parts = {
        "train": [i for i, key in enumerate(keys) if key not in validation],
        "validation": [i for i, key in enumerate(keys) if key in validation],
    }
    divided = {name: _subset(train, positions) for name, positions in parts.items()}
    return replace(dataset, splits={**dataset.splits, **divided})


def _subset(split: LabeledSplit, positions: Sequence[int]) -> LabeledSplit:
    return LabeledSplit(split.samples.subset(positions), [split.labels[i] for i in positions])


def _split(inputs: Clips, found: Iterable[tuple[Path, str]]) -> LabeledSplit:
    pairs = list(found)
    samples = InputSamples([path for path, _ in pairs], inputs)
    return LabeledSplit(samples, [(label,) for _, label in pairs])


# ---- folders of classes ----


def _read_folders(root: Path, inputs: Clips) -> LabeledDataset:
    named = {folder.name.lower(): folder for folder in subfolders(root)}
    found = {
        split: named[word]
        for split, words in SPLIT_WORDS.items()
        for word in reversed(words)
        if word in named
    }
    splits, names = {}, set()
    for split, folder in (found or {"train": root}).items():
        classes = list(subfolders(folder))
        pairs = [(clip, class_name(each.name)) for each in classes for clip in find_clips(each)]
        names |= {class_name(each.name) for each in classes}
        if pairs:
            splits[split] = _split(inputs, pairs)
    if not splits:
        raise DataError(
            f"{printable(root)} contains no videos in folders of classes; sort them into "
            "CLASS/video.mp4, or CLASS/CLIP/frame.jpg"
        )
    empty = [
        name for name in sorted(names) if not any((name,) in s.labels for s in splits.values())
    ]
    line = f"folders without videos: {name_some(empty)}"
    return LabeledDataset(splits, tuple(sorted(names)), (line,) if empty else ())


# ---- the lists of UCF101 ----


def _read_lists(root: Path, inputs: Clips) -> LabeledDataset:
    names = _class_names(root / CLASSES)
    by_name = {clip.name.removesuffix(clip.suffix): clip for clip in find_clips(root)}
    splits, warnings = {}, []
    for split, pattern in _LISTS.items():
        lists = sorted(root.glob(pattern))
        if not lists:
            continue
        if len(lists) > 1:
            others = name_some(path.name for path in lists[1:])
            warnings.append(f"{printable(lists[0])} is used; ignored: {others}")
        pairs = list(_listed(lists[0], names, by_name))
        missing = [printable(path.name) for path, _ in pairs if not inputs.is_path(path)]
        if missing:
            warnings.append(
                f"{printable(lists[0])} lists {len(missing)} videos that do not exist: "
                f"{name_some(missing)}"
            )
        splits[split] = _split(inputs, pairs)
    if not splits:
        raise DataError(f"{printable(root)} has {CLASSES}, but no trainlist01.txt beside it")
    return LabeledDataset(splits, tuple(names.values()), tuple(warnings))


def _class_names(path: Path) -> dict[str, str]:
    """Return the class names by their numbers."""
    names: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        key, _, name = line.partition(" ")
        if not key.isdecimal() or not name.strip() or key in names:
            raise DataError(f"{printable(path)}, line {number}: write a number and a class name")
        names[key] = class_name(name.strip())
    return names


def _listed(
    path: Path, names: dict[str, str], by_name: dict[str, Path]
) -> Iterator[tuple[Path, str]]:
    """Yield the videos of a list with their classes, which are numbers or the names of folders."""
    known = set(names.values())
    for number, line in enumerate(read_lines(path), 1):
        video, _, key = line.rpartition(" ") if line.split(" ")[-1].isdecimal() else (line, "", "")
        relative = Path(video)
        label = names.get(key) if key else relative.parent.name
        if label not in known:
            raise DataError(
                f"{printable(path)}, line {number}: {printable(key or relative.parent.name)} is no "
                f"class of {CLASSES}"
            )
        direct = path.parent / relative
        yield (direct if direct.exists() else by_name.get(relative.stem, direct)), label


# ---- tables ----


def _read_table(path: Path, inputs: Clips) -> LabeledDataset:
    found = read_manifest(path)
    splits = {
        split: LabeledSplit(InputSamples(list(files.paths), inputs), files.targets)
        for split, files in found.splits.items()
        if len(files)
    }
    return LabeledDataset(splits, found.names, found.warnings)

"""Read labeled images from every dataset format that classification supports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

from visiongraft.data.folder import LabeledSplits, read_folder
from visiongraft.data.images import DatasetSamples, class_names_of
from visiongraft.data.label_files import read_indexed, read_list
from visiongraft.data.manifest import MANIFEST_SUFFIXES, read_manifest
from visiongraft.data.samples import Samples
from visiongraft.data.splits import as_pair, join_pair
from visiongraft.errors import DataError
from visiongraft.lookup.reading import read_or_raise


@dataclass(frozen=True)
class LabeledSplit:
    """One split of a labeled dataset.

    Attributes:
        samples: The images; their own targets are not used.
        labels: Class names of each image.
    """

    samples: Samples
    labels: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class LabeledDataset:
    """A labeled dataset.

    Attributes:
        splits: ``"train"``, ``"validation"`` and ``"test"``, those that have images; a dataset
            without splits is all ``"train"``.
        class_names: All class names by id, including classes without images.
        warnings: One line for each part of the data that was ignored.
    """

    splits: dict[str, LabeledSplit]
    class_names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def read_dataset(data: Any, class_names: Sequence[str] = ()) -> LabeledDataset:
    """Read images and their labels, without decoding any image.

    Args:
        data: A folder with one folder per class; a CSV, TSV or Parquet table; a text list; a
            folder that holds one of these beside its images; a map-style dataset of (image,
            target); whatever an installed reader of labels supports; or a pair (training,
            validation) of these. The target of a map-style dataset is a class name or class id; a
            list, tuple or set of them; or a multi-hot array of 0 and 1.
        class_names: Class names by id, if they are known; they name the class ids of a dataset
            without class names of its own.

    Returns:
        The dataset.

    Raises:
        DataError: There are no images, or the format is unknown.
    """
    pair = as_pair(data)
    if pair is not None:
        return _read_pair(*pair, class_names)
    try:
        if isinstance(data, (str, Path)):
            return _read_path(Path(data))
        return from_samples({"train": DatasetSamples.of(data)}, class_names_of(data), class_names)
    except DataError as error:
        found = read_or_raise(data, "labels", error)
        dataset = from_samples(found.splits, found.names or None, class_names)
        return replace(dataset, warnings=found.warnings)


def _read_pair(training: Any, validation: Any, class_names: Sequence[str]) -> LabeledDataset:
    """Combine the training split of one dataset with the validation split of another."""
    first = read_dataset(training, class_names)
    second = read_dataset(validation, class_names or class_names_of(training) or ())
    new = [n for n in second.class_names if n not in set(first.class_names)]
    return LabeledDataset(
        join_pair(first.splits, second.splits),
        _in_order([*first.class_names, *new]) if new else first.class_names,
        (*first.warnings, *second.warnings),
    )


def _read_path(path: Path) -> LabeledDataset:
    if path.suffix.lower() in MANIFEST_SUFFIXES and not path.is_dir():
        return _from_files(read_manifest(path))
    if path.is_file() and path.suffix.lower() == ".txt":
        return _from_files(read_list(path))
    if path.is_file():
        raise DataError(
            f"{path}: unknown file format; pass a folder with one folder per class, or a table (.csv, "
            ".tsv, .parquet) with the columns path and label"
        )
    return _from_files(read_indexed(path) or read_folder(path))


def _from_files(found: LabeledSplits) -> LabeledDataset:
    splits = {
        split: LabeledSplit(files, files.targets)
        for split, files in found.splits.items()
        if len(files)
    }
    return LabeledDataset(splits, found.names, found.warnings)


# ---- targets of map-style datasets and of readers ----


def from_samples(
    splits: Mapping[str, Samples], own_names: Sequence[str] | None, class_names: Sequence[str]
) -> LabeledDataset:
    """Make a dataset of samples with targets of any form, which become class names.

    Args:
        splits: Samples by split.
        own_names: The dataset's class names by id, if it has them.
        class_names: Class names by id, if they are known otherwise.

    Raises:
        DataError: A target is neither a class name nor a class id, nor several of these.
    """
    by_id = _names_by_id(own_names, class_names)
    where = {s: [x.name(i) for i in range(len(x))] for s, x in splits.items()}
    targets = {s: [splits[s].target(i) for i in range(len(splits[s]))] for s in where}
    listed = {s: list(map(_as_list, targets[s], where[s])) for s in where}
    every_target = [target for split in targets.values() for target in split]
    _check_unambiguous(every_target)
    width = _multi_hot_length(every_target, by_id)
    labels = {
        s: [_names(t, by_id, at) for t, at in zip(listed[s], where[s], strict=True)] for s in where
    }
    seen = {name for split in labels.values() for names in split for name in names}
    if by_id is None:
        seen |= {str(i) for i in range(width)}
    known = own_names or ()
    order = (*known, *_in_order(seen.difference(known)))
    return LabeledDataset({s: LabeledSplit(splits[s], labels[s]) for s in where}, order)


def _names_by_id(
    own_names: Sequence[str] | None, class_names: Sequence[str]
) -> Mapping[int, str] | None:
    """Return the class name of each id; ``None`` if the ids serve as names."""
    if own_names is not None:
        return dict(enumerate(own_names))
    if not class_names or all(n.isdecimal() for n in class_names):
        return None
    return dict(enumerate(class_names))


def _is_multi_hot(target: Any) -> bool:
    return hasattr(target, "tolist") and getattr(target, "ndim", 0) == 1


def _as_list(target: Any, where: str) -> list[str | int]:
    """Return the class names or ids of a target of any form."""
    if _is_multi_hot(target):
        values: list[Any] = target.tolist()
        if all(isinstance(v, str) for v in values):
            return values
        if set(values) <= {0, 1}:
            return [i for i, value in enumerate(values) if value]
        raise DataError(
            f"{where}: a target array is multi-hot (0 or 1 per class), not {values[:8]}"
        )
    if isinstance(target, (str, Integral)):
        return [_item(target, where)]
    if isinstance(target, (list, tuple)):
        return [_item(value, where) for value in target]
    if isinstance(target, (set, frozenset)):
        return sorted((_item(value, where) for value in target), key=str)
    raise DataError(
        f"{where}: a target is a class name, a class id, or several of them, not "
        f"{type(target).__name__}"
    )


def _item(value: Any, where: str) -> str | int:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, Integral) and int(value) >= 0:
        return int(value)
    raise DataError(f"{where}: {value!r} is neither a class name nor a class id (0, 1, ...)")


def _names(
    target: Sequence[str | int], by_id: Mapping[int, str] | None, where: str
) -> tuple[str, ...]:
    if len(set(target)) != len(target):
        raise DataError(
            f"{where}: the target {list(target)} names a class twice; pass a multi-hot target as "
            "an array"
        )
    if by_id is None:
        return tuple(str(value) for value in target)
    for value in target:
        if isinstance(value, int) and value not in by_id:
            raise DataError(
                f"{where}: class id {value} has no name; the {len(by_id)} class names have the "
                f"ids 0 to {len(by_id) - 1}"
            )
    return tuple(value if isinstance(value, str) else by_id[value] for value in target)


def _multi_hot_length(targets: Sequence[Any], by_id: Mapping[int, str] | None) -> int:
    """Return the length of multi-hot targets; 0 if there are none."""
    lengths = {len(t) for t in targets if _is_multi_hot(t) and not isinstance(t[0], str)}
    if len(lengths) > 1 or (lengths and by_id is not None and lengths != {len(by_id)}):
        names = "" if by_id is None else f" for {len(by_id)} class names"
        raise DataError(
            f"target arrays have {sorted(lengths)} entries{names}; they need one per class"
        )
    return max(lengths, default=0)


def _check_unambiguous(targets: Sequence[Any]) -> None:
    """Reject lists such as [0, 1] for every image, which may be class ids or multi-hot."""
    if not all(isinstance(t, (list, tuple)) and len(t) > 1 for t in targets):
        return
    if len({len(t) for t in targets}) == 1 and all(v in (0, 1) for t in targets for v in t):
        raise DataError(
            "every target is a list of 0 and 1, which could be class ids or multi-hot; pass "
            "multi-hot targets as arrays, or use class names"
        )


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort class names, numerically if all of them are numbers."""
    listed = list(names)
    if all(n.isdecimal() for n in listed):
        return tuple(sorted(listed, key=int))
    return tuple(sorted(listed))

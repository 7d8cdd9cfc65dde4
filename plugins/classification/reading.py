"""Images with label names, out of every form of data that classification reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

from visiongraft.data.folder import LabeledSplits, read_folder
from visiongraft.data.images import DatasetSamples
from visiongraft.data.label_files import read_indexed, read_list
from visiongraft.data.manifest import MANIFEST_SUFFIXES, read_manifest
from visiongraft.data.readers import read_data
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import DataError


@dataclass(frozen=True)
class LabeledSplit:
    """Images and their label names.

    Attributes:
        samples: The images; their own targets are not used.
        labels: Label names of each image.
    """

    samples: Samples
    labels: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class LabeledDataset:
    """A dataset as it was found.

    Attributes:
        splits: By ``"train"``, ``"validation"`` and ``"test"``, those that have images; a set
            that is not divided is all ``"train"``.
        names: All label names, those without images too, in the order of their ids.
        warnings: One line on each thing that was passed over.
    """

    splits: dict[str, LabeledSplit]
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def find_source(data: Any, labels: Sequence[str] = ()) -> LabeledDataset:
    """Find images and label names.

    Args:
        data: A folder with one folder per label, a CSV, TSV or Parquet table, a text list, a folder
            with these beside its images, a map-style dataset of (image, target), what an installed reader of labels reads, or a pair (training,
            validation) of these. A dataset's target is a label name or class id, a list, tuple or
            set of them, or an array of 0 and 1 per label.
        labels: The label map, if it is fixed already; class ids of a dataset that has no class
            names of its own then mean these.

    Returns:
        What was found.

    Raises:
        DataError: There is nothing, or it is in no known form.
    """
    if isinstance(data, tuple):
        if len(data) != 2:
            raise DataError(f"data is one set or a pair (training, validation), not {len(data)}")
        return _read_pair(data[0], data[1], labels)
    try:
        if isinstance(data, (str, Path)):
            return _read_path(Path(data))
        return _read_dataset(data, labels)
    except DataError:
        found = read_data(data, "labels")  # asked last: installing a reader changes no dataset
        if found is None:
            raise
        source = _from_targets(found.splits, found.names or None, labels)
        return replace(source, warnings=found.warnings)


def _read_pair(training: Any, validation: Any, labels: Sequence[str]) -> LabeledDataset:
    """Take the training part of one set and the part of the other that was held out."""
    first = find_source(training, labels)
    if "train" not in first.splits:
        raise DataError("the training set of the pair has no training images")
    second = find_source(validation, labels or _class_names(training) or ())
    validation_set = next(
        second.splits[p] for p in ("validation", "test", "train") if p in second.splits
    )
    seen = [n for n in second.names if n not in set(first.names)]
    return LabeledDataset(
        {"train": first.splits["train"], "validation": validation_set},
        _in_order([*first.names, *seen]) if seen else first.names,
        (*first.warnings, *second.warnings),
    )


def _read_path(path: Path) -> LabeledDataset:
    if path.suffix.lower() in MANIFEST_SUFFIXES and not path.is_dir():
        return _from_files(read_manifest(path))
    if path.is_file() and path.suffix.lower() == ".txt":
        return _from_files(read_list(path))
    if path.is_file():
        raise DataError(
            f"{path} is a file of no known format; give a folder with one folder per label, or a "
            "table (.csv, .tsv, .parquet) with the columns path and label"
        )
    return _from_files(read_indexed(path) or read_folder(path))


def _from_files(found: LabeledSplits) -> LabeledDataset:
    parts = {
        part: LabeledSplit(FileSamples(files.paths, files.labels), files.labels)
        for part, files in found.splits.items()
        if len(files)
    }
    return LabeledDataset(parts, found.names, found.warnings)


# ---- datasets ----


def _read_dataset(dataset: Any, labels: Sequence[str]) -> LabeledDataset:
    return _from_targets({"train": DatasetSamples.of(dataset)}, _class_names(dataset), labels)


def _from_targets(
    parts: Mapping[str, Samples], own: Sequence[str] | None, labels: Sequence[str]
) -> LabeledDataset:
    """Turn targets of any form into label names."""
    by_id = _names_by_id(own, labels)
    places = {p: [s.name(i) for i in range(len(s))] for p, s in parts.items() if len(s)}
    targets = {p: [parts[p].target(i) for i in range(len(parts[p]))] for p in places}
    listed = {p: list(map(_listed, targets[p], places[p])) for p in places}
    everything = [target for part in targets.values() for target in part]
    _refuse_ambiguous(everything)
    width = _array_length(everything, by_id)
    names = {
        p: [_names(t, by_id, place) for t, place in zip(listed[p], places[p], strict=True)]
        for p in places
    }
    seen = {name for part in names.values() for each in part for name in each}
    if by_id is None:
        seen |= {str(i) for i in range(width)}
    known = own or ()
    order = (*known, *_in_order(seen.difference(known)))
    return LabeledDataset({p: LabeledSplit(parts[p], names[p]) for p in places}, order)


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    """Read the class names that torchvision's datasets offer, also through torch's Subset."""
    while hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    if not isinstance(names, (list, tuple)) or len(set(names)) != len(names):
        return None
    return tuple(names) if names and all(isinstance(n, str) for n in names) else None


def _names_by_id(own: Sequence[str] | None, labels: Sequence[str]) -> Mapping[int, str] | None:
    """Say what class ids mean; ``None`` if they are their own names."""
    if own is not None:
        return dict(enumerate(own))
    if not labels or all(n.isdecimal() for n in labels):
        return None
    return dict(enumerate(labels))


def _is_array(target: Any) -> bool:
    return hasattr(target, "tolist") and getattr(target, "ndim", 0) == 1


def _listed(target: Any, where: str) -> list[str | int]:
    """Give the names or ids in a target; an array of 0 and 1 marks the ids that are present."""
    if _is_array(target):
        values: list[Any] = target.tolist()
        if all(isinstance(v, str) for v in values):
            return values
        if set(values) <= {0, 1}:
            return [i for i, value in enumerate(values) if value]
        raise DataError(f"{where}: a target array holds 0 or 1 for each label, not {values[:8]}")
    if isinstance(target, (str, Integral)):
        return [_item(target, where)]
    if isinstance(target, (list, tuple)):
        return [_item(value, where) for value in target]
    if isinstance(target, (set, frozenset)):
        return sorted((_item(value, where) for value in target), key=str)
    raise DataError(
        f"{where}: a target is a label name, a class id, or several of them, not "
        f"{type(target).__name__}"
    )


def _item(value: Any, where: str) -> str | int:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, Integral) and int(value) >= 0:
        return int(value)
    raise DataError(f"{where}: {value!r} is neither a label name nor a class id (0, 1, ...)")


def _names(
    target: Sequence[str | int], by_id: Mapping[int, str] | None, where: str
) -> tuple[str, ...]:
    if len(set(target)) != len(target):
        raise DataError(
            f"{where}: the target {list(target)} names a label twice; if it marks labels with 0 "
            "and 1, give it as an array"
        )
    if by_id is None:
        return tuple(str(value) for value in target)
    for value in target:
        if isinstance(value, int) and value not in by_id:
            raise DataError(
                f"{where}: class id {value} has no name; the {len(by_id)} label names have the "
                f"ids 0 to {len(by_id) - 1}"
            )
    return tuple(value if isinstance(value, str) else by_id[value] for value in target)


def _array_length(targets: Sequence[Any], by_id: Mapping[int, str] | None) -> int:
    """Give the number of labels that target arrays mark; 0 if there are none."""
    lengths = {len(t) for t in targets if _is_array(t) and not isinstance(t[0], str)}
    if len(lengths) > 1 or (lengths and by_id is not None and lengths != {len(by_id)}):
        names = "" if by_id is None else f" for {len(by_id)} label names"
        raise DataError(f"target arrays have {sorted(lengths)} entries{names}; one for each label")
    return max(lengths, default=0)


def _refuse_ambiguous(targets: Sequence[Any]) -> None:
    """Lists such as [0, 1] for every image may be ids or marks; guessing could train nonsense."""
    if not all(isinstance(t, (list, tuple)) and len(t) > 1 for t in targets):
        return
    if len({len(t) for t in targets}) == 1 and all(v in (0, 1) for t in targets for v in t):
        raise DataError(
            "every target is a list of 0 and 1, which could be class ids or marks; give arrays for "
            "marks, or label names"
        )


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort label names, those that are all numbers by their value."""
    listed = list(names)
    if all(n.isdecimal() for n in listed):
        return tuple(sorted(listed, key=int))
    return tuple(sorted(listed))

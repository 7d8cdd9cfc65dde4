"""Infer what mask values mean: the kind of a dataset, its class names and class ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from visiongraft.data.labels import LabelMap
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.segmentation.formats.dataset import MaskDataset
from visiongraft.plugins.segmentation.formats.masks import (
    IGNORED,
    IGNORED_VALUE,
    UNKNOWN,
    Mask,
    gray_levels,
    load_values,
)

VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "ignored")
BINARY = ("background", "foreground")
SAMPLED_MASKS = 50  # read to infer whether a folder without class names is binary

Ignore = str | int | None


def infer_kind(dataset: MaskDataset, class_names: tuple[str, ...]) -> str:
    """Infer the kind of masks in a dataset.

    Args:
        dataset: The dataset.
        class_names: Class names by id, if they are given.

    Returns:
        ``"multi_class"``, ``"binary"`` or ``"multi_label"``.

    Raises:
        DataError: Neither the dataset nor ``class_names`` defines the classes of the mask values.
    """
    if dataset.mask_per_class:
        return "multi_label"
    if dataset.drawn:
        return "multi_class"
    names = dataset.names or class_names
    if names:
        # Two classes with the values 0 and 255 would otherwise be one class and ignored pixels.
        two = len(names) == 2 and not dataset.colors
        return (
            "binary"
            if two and _values(dataset, SAMPLED_MASKS) == {0, IGNORED_VALUE}
            else "multi_class"
        )
    values = _values(dataset, SAMPLED_MASKS if dataset.files else None)
    if values <= {0, 1, IGNORED_VALUE} and len(values) > 1:
        return "binary"
    if dataset.files:
        raise DataError(
            "the class names of the mask values are unknown; add classes.txt with one name per line, "
            "or set class_names, in the order of the values (the masks contain "
            f"{name_some(map(str, sorted(values)), 8)})"
        )
    return "multi_class"


def value_names(dataset: MaskDataset, kind: str, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the class name of each mask value, in the order of the values."""
    if dataset.names:
        return dataset.names
    if class_names and not all(name.isdecimal() for name in class_names):
        return class_names
    if kind == "binary":
        return BINARY
    if kind == "multi_label":
        first = next(iter(dataset.splits.values())).target(0)
        return tuple(str(i) for i in range(len(first)))
    top = max(_values(dataset) - {IGNORED_VALUE}, default=0)
    return tuple(str(i) for i in range(max(top + 1, *(int(name) + 1 for name in class_names), 0)))


def _values(dataset: MaskDataset, limit: int | None = None) -> set[int]:
    """Collect the values of all masks, or of about ``limit`` masks per split."""
    found: set[int] = set()
    for values in _iter_masks(dataset, limit):
        found.update(np.unique(values).tolist())
    return found


def _iter_masks(dataset: MaskDataset, limit: int | None = None) -> Iterator[Mask]:
    """Load all masks, or some; skip unreadable ones, which the data check reports.

    Raises:
        DataError: No mask can be read.
    """
    readable, problem = False, None
    for samples in dataset.splits.values():
        count = len(samples)
        step = 1 if limit is None else max(1, count // limit)
        for index in range(0, count, step):
            try:
                raw = samples.target(index)
                for one in raw if dataset.mask_per_class else [raw]:
                    yield load_values(one, samples.name(index), dataset.colors)
                    readable = True
            except DataError as error:
                problem = problem or error
    if problem is not None and not readable:
        raise problem


def decide_gray_colors(dataset: MaskDataset) -> MaskDataset:
    """Decide what gray masks beside a color map contain: colors, or the indices of colors.

    Args:
        dataset: A dataset of files.

    Returns:
        The dataset, with ``gray_colors`` if every gray level in its gray masks is a color. A
        warning tells if gray masks are read as indices.
    """
    if not dataset.colors:
        return dataset
    levels: set[int] = set()
    for samples in dataset.splits.values():
        for index in range(0, len(samples), max(1, len(samples) // SAMPLED_MASKS)):
            with suppress(DataError):  # the data check reports it
                levels |= gray_levels(Path(samples.target(index)))
    if levels <= {red for red, green, blue in dataset.colors if red == green == blue}:
        return replace(dataset, gray_colors=bool(levels))
    line = "gray masks beside a color map are read as indices of its lines, counted from 0"
    return replace(dataset, warnings=(*dataset.warnings, line))


def is_ignored(name: str, names: Sequence[str], class_names: Sequence[str], ignore: Ignore) -> bool:
    """Check whether a class is ignored, by the option or by its name."""
    if isinstance(ignore, int) and ignore < len(names) and names[ignore] == name:
        return True
    return name == ignore or (name not in class_names and name.lower() in VOID_NAMES)


def value_ids(names: Sequence[str], class_names: Sequence[str], ignore: Ignore) -> tuple[int, ...]:
    """Return the class id of each mask value."""
    label_map = LabelMap(tuple(class_names))
    ids = [
        IGNORED if is_ignored(name, names, class_names, ignore) else label_map.id_of(name)
        for name in names
    ]
    ignored = {IGNORED_VALUE} if ignore is None or isinstance(ignore, str) else {255, ignore}
    for value in sorted(ignored):
        ids += [UNKNOWN] * (value + 1 - len(ids))
        if value >= len(names):
            ids[value] = IGNORED
    return tuple(ids)


def binary_ids(dataset: MaskDataset) -> tuple[int, ...]:
    """Return the ids of 0, 1 and 255 in binary masks; 255 is foreground unless a mask has a 1."""
    for values in _iter_masks(dataset):
        found = set(np.unique(values).tolist())
        if 1 in found:
            break
        if IGNORED_VALUE in found:
            return (0, *[UNKNOWN] * (IGNORED_VALUE - 1), 1)
    return (0, 1, *[UNKNOWN] * (IGNORED_VALUE - 2), IGNORED)


def presence_ids(ignore: Ignore) -> tuple[int, ...]:
    """Return the ids of the values in masks per class, where both 1 and 255 mean present."""
    return with_ignored((0, 1, *[UNKNOWN] * (IGNORED_VALUE - 2), 1), ignore)


def with_ignored(ids: tuple[int, ...], ignore: Ignore) -> tuple[int, ...]:
    """Return the ids with one more ignored value."""
    if not isinstance(ignore, int):
        return ids
    longer = [*ids, *[UNKNOWN] * (ignore + 1 - len(ids))]
    longer[ignore] = IGNORED
    return tuple(longer)

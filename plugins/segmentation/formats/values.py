"""What the values in masks mean: the kind of a dataset, its class names, and class ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from visiongraft.data.labels import LabelMap
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.segmentation.formats.masks import (
    IGNORED,
    IGNORED_VALUE,
    UNKNOWN,
    Mask,
    load_values,
)
from visiongraft.plugins.segmentation.formats.reading import MaskDataset

VOID = ("void", "unlabelled", "unlabeled", "ignore", "ignored")
BINARY = ("background", "foreground")
PROBED = 50  # masks that are looked at to find out whether a folder without names is binary

Ignore = str | int | None


def kind_of(source: MaskDataset, labels: tuple[str, ...]) -> str:
    """Decide what kind of masks a dataset has.

    Args:
        source: The dataset.
        labels: The label map if it is fixed.

    Returns:
        ``"multi_class"``, ``"binary"`` or ``"multi_label"``.

    Raises:
        DataError: Neither the data nor the label map say which classes the values are.
    """
    if source.several:
        return "multi_label"
    names = source.names or labels
    if names:
        # Two classes that are written as 0 and 255 would be one class and pixels to ignore.
        two = len(names) == 2 and not source.colors
        return "binary" if two and _values(source, PROBED) == {0, IGNORED_VALUE} else "multi_class"
    values = _values(source, PROBED if source.files else None)
    if values <= {0, 1, IGNORED_VALUE} and len(values) > 1:
        return "binary"
    if source.files:
        raise DataError(
            "the data do not say which classes the values in the masks mean; add classes.txt with "
            "one name a line, or give the names as the option labels, in the order of the values "
            f"(values are {name_some(map(str, sorted(values)), 8)})"
        )
    return "multi_class"


def names_of(source: MaskDataset, kind: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Say which class each value means, in the order of the values."""
    if source.names:
        return source.names
    if labels and not all(name.isdecimal() for name in labels):
        return labels
    if kind == "binary":
        return BINARY
    if kind == "multi_label":
        first = next(iter(source.splits.values())).target(0)
        return tuple(str(i) for i in range(len(first)))
    top = max(_values(source) - {IGNORED_VALUE}, default=0)
    return tuple(str(i) for i in range(max(top + 1, *(int(name) + 1 for name in labels), 0)))


def _values(source: MaskDataset, limit: int | None = None) -> set[int]:
    """Collect the values in the masks, of all or of some."""
    found: set[int] = set()
    for values in _some_values(source, limit):
        found.update(np.unique(values).tolist())
    return found


def _some_values(source: MaskDataset, limit: int | None = None) -> Iterator[Mask]:
    """Read masks that can be read; the others are reported by the data check.

    Raises:
        DataError: None can be read.
    """
    readable, problem = False, None
    for samples in source.splits.values():
        count = len(samples)
        step = 1 if limit is None else max(1, count // limit)
        for index in range(0, count, step):
            try:
                raw = samples.target(index)
                for one in raw if source.several else [raw]:
                    yield load_values(one, samples.name(index), source.colors)
                    readable = True
            except DataError as error:
                problem = problem or error
    if problem is not None and not readable:
        raise problem


def is_ignored(name: str, names: Sequence[str], labels: Sequence[str], ignore: Ignore) -> bool:
    """Say whether a class does not count: by the option, or by what it is called."""
    if isinstance(ignore, int) and ignore < len(names) and names[ignore] == name:
        return True
    return name == ignore or (name not in labels and name.lower() in VOID)


def ids_of(names: Sequence[str], labels: Sequence[str], ignore: Ignore) -> tuple[int, ...]:
    """Give the class id of each value."""
    own = LabelMap(tuple(labels))
    ids = [
        IGNORED if is_ignored(name, names, labels, ignore) else own.id_of(name) for name in names
    ]
    ignored = {IGNORED_VALUE} if ignore is None or isinstance(ignore, str) else {255, ignore}
    for value in sorted(ignored):
        ids += [UNKNOWN] * (value + 1 - len(ids))
        if value >= len(names):
            ids[value] = IGNORED
    return tuple(ids)


def binary_ids(source: MaskDataset) -> tuple[int, ...]:
    """Say what 0, 1 and 255 mean in binary masks: 255 is foreground unless some mask has a 1."""
    for values in _some_values(source):
        found = set(np.unique(values).tolist())
        if 1 in found:
            break
        if IGNORED_VALUE in found:
            return (0, *[UNKNOWN] * (IGNORED_VALUE - 1), 1)
    return (0, 1, *[UNKNOWN] * (IGNORED_VALUE - 2), IGNORED)


def presence_ids(ignore: Ignore) -> tuple[int, ...]:
    """Say what values mean in the masks of single classes: 1 and 255 are both present."""
    return with_ignored((0, 1, *[UNKNOWN] * (IGNORED_VALUE - 2), 1), ignore)


def with_ignored(ids: tuple[int, ...], ignore: Ignore) -> tuple[int, ...]:
    """Add a value that is ignored."""
    if not isinstance(ignore, int):
        return ids
    longer = [*ids, *[UNKNOWN] * (ignore + 1 - len(ids))]
    longer[ignore] = IGNORED
    return tuple(longer)

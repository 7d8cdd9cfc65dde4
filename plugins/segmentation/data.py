"""From masks of any form to class ids: one label map for all parts, a split, and remarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.labels import LabelMap
from visiongraft.data.samples import Image, Samples, Splits
from visiongraft.data.splits import stratified_split
from visiongraft.errors import DataError, OptionError, name_some, near_matches
from visiongraft.plugins.segmentation.masks import (
    IGNORED,
    IGNORED_VALUE,
    UNKNOWN,
    Mask,
    MaskReader,
    load_values,
    place,
)
from visiongraft.plugins.segmentation.sources import Source, find_source

VOID = ("void", "unlabelled", "unlabeled", "ignore", "ignored")
BINARY = ("background", "foreground")
PROBED = 50  # masks that are looked at to find out whether a folder without names is binary

Ignore = str | int | None


@dataclass(frozen=True)
class MaskedSamples(Samples):
    """Pictures whose targets are class ids per pixel, read when asked for.

    Attributes:
        base: Pictures, with masks as they were found.
        reader: Turns those into class ids.
        labels: The label map.
        kind: ``"multi_class"``, ``"binary"`` or ``"multi_label"``.
    """

    base: Samples
    reader: MaskReader
    labels: tuple[str, ...]
    kind: str

    def __len__(self) -> int:
        return len(self.base)

    def name(self, index: int) -> str:
        return self.base.name(index)

    def target(self, index: int) -> Mask:
        """Read the mask: see ``MaskReader.read``."""
        return self.reader.read(self.base.target(index), self.base.name(index))

    def load(self, index: int, channels: int = 3) -> Image:
        return self.base.load(index, channels)

    def content(self, index: int) -> bytes | None:
        return self.base.content(index)

    def problem(self, index: int, height: int, width: int) -> str:
        """Say what is wrong with a mask.

        Args:
            index: Position of the sample.
            height: Height of its picture in pixels.
            width: Width of its picture in pixels.

        Returns:
            One line that names mask and picture, or nothing.
        """
        try:
            mask = self.target(index)
        except DataError as error:
            return str(error)
        if mask.shape[-2:] == (height, width):
            return ""
        raw = self.base.target(index)
        name = place(raw[0] if isinstance(raw, tuple) else raw, self.base.name(index))
        return f"{name}: is {mask.shape[-2]}x{mask.shape[-1]}, its picture {height}x{width} pixels"

    def subset(self, indices: Sequence[int]) -> MaskedSamples:
        """Take some samples, in the given order; they keep reader and label map."""
        return MaskedSamples(self.base.subset(indices), self.reader, self.labels, self.kind)

    def counts(self) -> NDArray[np.int64]:
        """Count the pixels of each class over all masks; of multi-label data those that have it."""
        total = np.zeros(len(self.labels), np.int64)
        for index in range(len(self)):
            mask = self.target(index)
            if self.kind == "multi_label":
                total += (mask == 1).sum((1, 2))
            else:
                total += np.bincount(mask.ravel(), minlength=len(total))[: len(total)]
        return total


def read_splits(
    data: Any,
    *,
    labels: tuple[str, ...] = (),
    kind: str | None = None,
    ignore: Ignore = None,
    validation: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Read a data set to train on.

    Args:
        data: See ``find_source``, or a pair (training, validation) of these.
        labels: The label map if it is fixed; else it is made of the class names in the data.
        kind: ``"multi_class"``, ``"binary"``, ``"multi_label"``, or ``None`` to decide by the data.
        ignore: A class name or a value whose pixels do not count; see ``Segmentation``.
        validation: Share to hold out where there is no validation part, in (0, 1).
        seed: Seed of that split.

    Returns:
        Training and validation samples, both ``MaskedSamples`` with the same label map.

    Raises:
        DataError: There is nothing to train on or to hold out, or a class is not in the label map.
    """
    first, second = _both(data)
    if "train" not in first.parts:
        raise DataError(f"the data have no training pictures, only {' and '.join(first.parts)}")
    kind = kind or _kind(first, labels)
    names = _names(first, kind, labels)
    left_out = [name for name in names if _is_ignored(name, names, labels, ignore)]
    labels = labels or LabelMap(tuple(n for n in names if n not in left_out)).names
    check_labels(labels, kind)
    parts = {p: _masked(first, p, labels, kind, ignore) for p in first.parts}
    if second is not None:
        part = next(p for p in ("validation", "test", "train") if p in second.parts)
        parts["validation"] = _masked(second, part, labels, kind, ignore)
    train = parts["train"]
    if "validation" in parts:
        held_out, origin = parts["validation"], "the data's own part"
    else:
        kept, rest = stratified_split([0] * len(train), validation, seed)
        if not rest:
            raise DataError("one picture cannot be divided; add pictures, or a validation part")
        train, held_out = parts["train"].subset(kept), parts["train"].subset(rest)
        origin = f"{validation:.0%} of the training pictures, seed {seed}"
    facts: dict[str, Any] = {"labels": len(labels), "kind": kind, "ignored classes": left_out}
    facts["validation from"] = origin
    if "test" in parts:
        facts["test pictures, not used"] = len(parts["test"])
    warnings = [*first.warnings, *(second.warnings if second is not None else ())]
    if left_out:
        warnings.append(
            f"pixels of {name_some(left_out)} are ignored in loss and metrics; the option labels "
            "can make it a class"
        )
    return Splits(train, held_out, facts, tuple(warnings))


def read_labelled(
    data: Any, labels: tuple[str, ...], kind: str, ignore: Ignore = None
) -> MaskedSamples:
    """Read pictures to evaluate on.

    Args:
        data: See ``read_splits``; the test part is taken if there is one, else the validation
            part, else all.
        labels: The label map.
        kind: See ``read_splits``.
        ignore: See ``read_splits``.

    Returns:
        The samples.

    Raises:
        DataError: There are none, or a class is not in the label map.
    """
    first, second = _both(data)
    source = second or first
    part = next(p for p in ("test", "validation", "train") if p in source.parts)
    return _masked(source, part, labels, kind, ignore)


def check_labels(labels: tuple[str, ...], kind: str) -> None:
    """Make sure that there is something to tell apart.

    Args:
        labels: The label map.
        kind: See ``read_splits``.

    Raises:
        DataError: There are too few or too many classes.
    """
    if kind == "binary" and len(labels) != 2:
        raise DataError(
            f"binary masks have two classes, background and what is looked for, not {len(labels)}: "
            f"{name_some(labels)}"
        )
    if len(labels) < (1 if kind == "multi_label" else 2):
        raise DataError(f"there is nothing to tell apart: the classes are {name_some(labels)}")


def _both(data: Any) -> tuple[Source, Source | None]:
    if not isinstance(data, tuple):
        return find_source(data), None
    if len(data) != 2:
        raise DataError(f"data is one set or a pair (training, validation), not {len(data)}")
    return find_source(data[0]), find_source(data[1])


# ---- what the values mean ----


def _kind(source: Source, labels: tuple[str, ...]) -> str:
    if source.several:
        return "multi_label"
    names = source.names or labels
    if names:
        # Two classes that are written as 0 and 255 would be one class and pixels to ignore.
        two = len(names) == 2 and not source.colours
        return "binary" if two and _values(source, PROBED) == {0, IGNORED_VALUE} else "multi_class"
    values = _values(source, PROBED if source.files else None)
    if values <= {0, 1, IGNORED_VALUE} and len(values) > 1:
        return "binary"
    if source.files:
        raise DataError(
            "the data do not say which classes the values in the masks mean; add classes.txt with "
            f"one name a line (values are {name_some(map(str, sorted(values)), 8)})"
        )
    return "multi_class"


def _names(source: Source, kind: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Say which class each value means, in the order of the values."""
    if source.names:
        return source.names
    if labels and not all(name.isdecimal() for name in labels):
        return labels
    if kind == "binary":
        return BINARY
    if kind == "multi_label":
        first = next(iter(source.parts.values())).target(0)
        return tuple(str(i) for i in range(len(first)))
    top = max(_values(source) - {IGNORED_VALUE}, default=0)
    return tuple(str(i) for i in range(max(top + 1, *(int(name) + 1 for name in labels), 0)))


def _values(source: Source, limit: int | None = None) -> set[int]:
    """Collect the values in the masks, of all or of some."""
    found: set[int] = set()
    for values in _some_values(source, limit):
        found.update(np.unique(values).tolist())
    return found


def _some_values(source: Source, limit: int | None = None) -> Iterator[Mask]:
    """Read masks that can be read; the others are reported by the data check.

    Raises:
        DataError: None can be read.
    """
    readable, problem = False, None
    for samples in source.parts.values():
        count = len(samples)
        step = 1 if limit is None else max(1, count // limit)
        for index in range(0, count, step):
            try:
                raw = samples.target(index)
                for one in raw if source.several else [raw]:
                    yield load_values(one, samples.name(index), source.colours)
                    readable = True
            except DataError as error:
                problem = problem or error
    if problem is not None and not readable:
        raise problem


def _is_ignored(name: str, names: Sequence[str], labels: Sequence[str], ignore: Ignore) -> bool:
    """Say whether a class does not count: by the option, or by what it is called."""
    if isinstance(ignore, int) and ignore < len(names) and names[ignore] == name:
        return True
    return name == ignore or (name not in labels and name.lower() in VOID)


def _masked(
    source: Source, part: str, labels: tuple[str, ...], kind: str, ignore: Ignore
) -> MaskedSamples:
    if source.several != (kind == "multi_label"):
        have = "one mask per class" if source.several else "one mask per picture"
        raise DataError(f"the data have {have}, which does not fit kind={kind!r}")
    names = _names(source, kind, labels)
    if isinstance(ignore, str) and ignore not in (*names, *labels):
        raise OptionError(f"ignore={ignore!r} is no class{near_matches(ignore, names)}")
    several = kind == "multi_label"
    if names == labels and not several and isinstance(ignore, int) and ignore < len(names):
        raise OptionError(
            f"ignore={ignore} is the class {names[ignore]!r}; leave it out of labels, and let the "
            "data name their classes (classes.txt)"
        )
    if several:
        for name in names:
            if not _is_ignored(name, names, labels, ignore):
                LabelMap(labels).id_of(name)
        base, ids = _ordered(source.parts[part], names, labels), _present(ignore)
    elif kind == "binary" and not source.colours:
        base, ids = source.parts[part], _with(_foreground(source), ignore)
    else:
        base, ids = source.parts[part], _ids(names, labels, ignore)
    return MaskedSamples(base, MaskReader(len(labels), ids, source.colours, several), labels, kind)


def _ids(names: Sequence[str], labels: Sequence[str], ignore: Ignore) -> tuple[int, ...]:
    """Give the class id of each value."""
    own = LabelMap(tuple(labels))
    ids = [
        IGNORED if _is_ignored(name, names, labels, ignore) else own.id_of(name) for name in names
    ]
    ignored = {IGNORED_VALUE} if ignore is None or isinstance(ignore, str) else {255, ignore}
    for value in sorted(ignored):
        ids += [UNKNOWN] * (value + 1 - len(ids))
        if value >= len(names):
            ids[value] = IGNORED
    return tuple(ids)


def _foreground(source: Source) -> tuple[int, ...]:
    """Say what 0, 1 and 255 mean in binary masks: 255 is foreground unless some mask has a 1."""
    for values in _some_values(source):
        found = set(np.unique(values).tolist())
        if 1 in found:
            break
        if IGNORED_VALUE in found:
            return (0, *[UNKNOWN] * (IGNORED_VALUE - 1), 1)
    return (0, 1, *[UNKNOWN] * (IGNORED_VALUE - 2), IGNORED)


def _present(ignore: Ignore) -> tuple[int, ...]:
    """Say what values mean in the masks of single classes: 1 and 255 are both present."""
    return _with((0, 1, *[UNKNOWN] * (IGNORED_VALUE - 2), 1), ignore)


def _with(ids: tuple[int, ...], ignore: Ignore) -> tuple[int, ...]:
    """Add a value that is ignored."""
    if not isinstance(ignore, int):
        return ids
    longer = [*ids, *[UNKNOWN] * (ignore + 1 - len(ids))]
    longer[ignore] = IGNORED
    return tuple(longer)


def _ordered(samples: Samples, names: Sequence[str], labels: Sequence[str]) -> Samples:
    """Bring the masks of each picture into the order of the label map."""
    if tuple(names) == tuple(labels):
        return samples
    missing = [label for label in labels if label not in names]
    if missing:
        raise DataError(f"the data have no masks of the classes {name_some(missing)}")
    return _Reordered(samples, tuple(list(names).index(label) for label in labels))


@dataclass(frozen=True)
class _Reordered(Samples):
    """Pictures whose masks come in another order."""

    base: Samples
    order: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.base)

    def name(self, index: int) -> str:
        return self.base.name(index)

    def target(self, index: int) -> Any:
        masks = self.base.target(index)
        return tuple(masks[i] for i in self.order)

    def load(self, index: int, channels: int = 3) -> Image:
        return self.base.load(index, channels)

    def content(self, index: int) -> bytes | None:
        return self.base.content(index)

    def subset(self, indices: Sequence[int]) -> Samples:
        return _Reordered(self.base.subset(indices), self.order)

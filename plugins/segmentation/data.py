"""From masks of any form to class ids: one label map for all parts, a split, and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.labels import LabelMap
from visiongraft.data.samples import Samples, Splits, WrappedSamples
from visiongraft.data.splits import stratified_split
from visiongraft.errors import DataError, OptionError, name_some, near_matches
from visiongraft.plugins.segmentation.formats.masks import Mask, MaskReader, place
from visiongraft.plugins.segmentation.formats.reading import MaskDataset, find_source
from visiongraft.plugins.segmentation.formats.values import (
    Ignore,
    binary_ids,
    ids_of,
    is_ignored,
    kind_of,
    names_of,
    presence_ids,
    with_ignored,
)


@dataclass(frozen=True)
class MaskedSamples(WrappedSamples):
    """Images whose targets are class ids per pixel, read when asked for.

    Attributes:
        base: Images, with masks as they were found.
        reader: Turns those into class ids.
        labels: The label map.
        kind: ``"multi_class"``, ``"binary"`` or ``"multi_label"``.
    """

    reader: MaskReader
    labels: tuple[str, ...]
    kind: str

    def target(self, index: int) -> Mask:
        """Read the mask: see ``MaskReader.read``."""
        return self.reader.read(self.base.target(index), self.base.name(index))

    def problem(self, index: int, height: int, width: int) -> str:
        """Say what is wrong with a mask.

        Args:
            index: Position of the sample.
            height: Height of its image in pixels.
            width: Width of its image in pixels.

        Returns:
            One line that names mask and image, or nothing.
        """
        try:
            mask = self.target(index)
        except DataError as error:
            return str(error)
        if mask.shape[-2:] == (height, width):
            return ""
        raw = self.base.target(index)
        name = place(raw[0] if isinstance(raw, tuple) else raw, self.base.name(index))
        return f"{name}: is {mask.shape[-2]}x{mask.shape[-1]}, its image {height}x{width} pixels"

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
    """Read a dataset to train on.

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
    if "train" not in first.splits:
        raise DataError(f"the data have no training images, only {' and '.join(first.splits)}")
    kind = kind or kind_of(first, labels)
    names = names_of(first, kind, labels)
    left_out = [name for name in names if is_ignored(name, names, labels, ignore)]
    labels = labels or LabelMap(tuple(n for n in names if n not in left_out)).names
    check_labels(labels, kind)
    parts = {p: _masked(first, p, labels, kind, ignore) for p in first.splits}
    if second is not None:
        part = next(p for p in ("validation", "test", "train") if p in second.splits)
        parts["validation"] = _masked(second, part, labels, kind, ignore)
    train = parts["train"]
    if "validation" in parts:
        validation_set, origin = parts["validation"], "the data's own part"
    else:
        kept, rest = stratified_split([0] * len(train), validation, seed)
        if not rest:
            raise DataError("one image cannot be divided; add images, or a validation part")
        train, validation_set = parts["train"].subset(kept), parts["train"].subset(rest)
        origin = f"{validation:.0%} of the training images, seed {seed}"
    facts: dict[str, Any] = {"labels": len(labels), "kind": kind, "ignored classes": left_out}
    facts["validation from"] = origin
    if "test" in parts:
        facts["test images, not used"] = len(parts["test"])
    warnings = [*first.warnings, *(second.warnings if second is not None else ())]
    if left_out:
        warnings.append(
            f"pixels of {name_some(left_out)} are ignored in loss and metrics; the option labels "
            "can make it a class"
        )
    return Splits(train, validation_set, facts, tuple(warnings))


def read_labeled(
    data: Any, labels: tuple[str, ...], kind: str, ignore: Ignore = None
) -> MaskedSamples:
    """Read images to evaluate on.

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
    part = next(p for p in ("test", "validation", "train") if p in source.splits)
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


def _both(data: Any) -> tuple[MaskDataset, MaskDataset | None]:
    if not isinstance(data, tuple):
        return find_source(data), None
    if len(data) != 2:
        raise DataError(f"data is one set or a pair (training, validation), not {len(data)}")
    return find_source(data[0]), find_source(data[1])


def _masked(
    source: MaskDataset, part: str, labels: tuple[str, ...], kind: str, ignore: Ignore
) -> MaskedSamples:
    if source.several != (kind == "multi_label"):
        have = "one mask per class" if source.several else "one mask per image"
        raise DataError(f"the data have {have}, which does not fit kind={kind!r}")
    names = names_of(source, kind, labels)
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
            if not is_ignored(name, names, labels, ignore):
                LabelMap(labels).id_of(name)
        base, ids = _ordered(source.splits[part], names, labels), presence_ids(ignore)
    elif kind == "binary" and not source.colors:
        base, ids = source.splits[part], with_ignored(binary_ids(source), ignore)
    else:
        base, ids = source.splits[part], ids_of(names, labels, ignore)
    return MaskedSamples(base, MaskReader(len(labels), ids, source.colors, several), labels, kind)


def _ordered(samples: Samples, names: Sequence[str], labels: Sequence[str]) -> Samples:
    """Bring the masks of each image into the order of the label map."""
    if tuple(names) == tuple(labels):
        return samples
    missing = [label for label in labels if label not in names]
    if missing:
        raise DataError(f"the data have no masks of the classes {name_some(missing)}")
    return _Reordered(samples, tuple(list(names).index(label) for label in labels))


@dataclass(frozen=True)
class _Reordered(WrappedSamples):
    """Images whose masks come in another order."""

    order: tuple[int, ...]

    def target(self, index: int) -> Any:
        masks = self.base.target(index)
        return tuple(masks[i] for i in self.order)

    def subset(self, indices: Sequence[int]) -> Samples:
        return _Reordered(self.base.subset(indices), self.order)

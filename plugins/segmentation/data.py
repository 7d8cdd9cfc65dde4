"""Map masks of any form to class ids, and split off a validation set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.check import UNREADABLE_LIMIT
from visiongraft.data.labels import LabelMap, similar_names
from visiongraft.data.samples import EvaluationSplit, Samples, Splits, WrappedSamples
from visiongraft.data.splits import (
    as_pair,
    evaluation_split,
    name_evaluated,
    split_at_random,
    training_and_validation,
    validation_split,
)
from visiongraft.errors import DataError, OptionError, name_some, near_matches, noticed
from visiongraft.plugins.segmentation.formats.dataset import MaskDataset, undecided_orientation
from visiongraft.plugins.segmentation.formats.masks import (
    Mask,
    MaskReader,
    describe_mask,
    ignored_id,
)
from visiongraft.plugins.segmentation.formats.reading import read_dataset
from visiongraft.plugins.segmentation.formats.values import (
    Ignore,
    binary_ids,
    infer_kind,
    is_ignored,
    presence_ids,
    value_ids,
    value_names,
    with_ignored,
)


@dataclass(frozen=True)
class MaskedSamples(WrappedSamples):
    """Images whose targets are masks of class ids, read lazily.

    Attributes:
        base: Images with their original masks.
        reader: Converts the masks to class ids.
        class_names: Class names by id.
        kind: ``"multi_class"``, ``"binary"`` or ``"multi_label"``.
    """

    reader: MaskReader
    class_names: tuple[str, ...]
    kind: str

    def target(self, index: int) -> Mask:
        """Read the mask: see ``MaskReader.read``."""
        return self.reader.read(self.base.target(index), self.base.name(index))

    def problem(self, index: int, height: int, width: int) -> str:
        """Describe what is wrong with a mask.

        Args:
            index: Position of the sample.
            height: Height of its image in pixels.
            width: Width of its image in pixels.

        Returns:
            One line that names mask and image, or an empty string.
        """
        return self.checked_target(index, height, width)[0]

    def checked_target(
        self, index: int, height: int, width: int
    ) -> tuple[str, Callable[[], Mask | None]]:
        """Return problem and mask of a sample; the mask is read once."""
        try:
            mask = self.target(index)
        except DataError as error:
            return str(error), lambda: None
        problem = ""
        if mask.shape[-2:] != (height, width):
            raw = self.base.target(index)
            name = describe_mask(raw[0] if isinstance(raw, tuple) else raw, self.base.name(index))
            size = f"{mask.shape[-2]}x{mask.shape[-1]}"
            problem = f"{name}: has {size} pixels, but its image has {height}x{width}"
        return problem, lambda: mask

    def subset(self, indices: Sequence[int]) -> MaskedSamples:
        """Return some of the samples, in the given order, with the same reader and class names."""
        return MaskedSamples(self.base.subset(indices), self.reader, self.class_names, self.kind)

    def counts(self) -> NDArray[np.int64]:
        """Count the pixels of each class over all masks."""
        total = np.zeros(len(self.class_names), np.int64)
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
    class_names: tuple[str, ...] = (),
    kind: str | None = None,
    ignore: Ignore = None,
    validation: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Read a dataset to train on.

    Args:
        data: See ``formats.reading.read_dataset``, or a pair (training, validation) of these.
        class_names: Class names by id; taken from the dataset if empty.
        kind: ``"multi_class"``, ``"binary"``, ``"multi_label"``, or ``None`` to infer it.
        ignore: A class name or a mask value whose pixels are ignored; see ``Segmentation``.
        validation: Fraction of the training images to hold out if the dataset has no validation
            split, in (0, 1).
        seed: Seed of that random split.

    Returns:
        Training and validation samples, both ``MaskedSamples`` with the same class names.

    Raises:
        DataError: There are no images to train on or to hold out, or a class is not one of the
            class names.
    """
    first, second = _read_pair(data)
    warnings = (*first.warnings, *(second.warnings if second is not None else ()))
    with noticed(warnings):
        return _make_splits(first, second, class_names, kind, ignore, validation, seed)


def _make_splits(
    first: MaskDataset,
    second: MaskDataset | None,
    class_names: tuple[str, ...],
    kind: str | None,
    ignore: Ignore,
    validation: float,
    seed: int,
) -> Splits:
    if "train" not in first.splits:
        raise DataError(f"the dataset has no training images, only {' and '.join(first.splits)}")
    kind = kind or infer_kind(first, class_names)
    names = value_names(first, kind, class_names)
    ignored = _ignored(names, class_names, ignore)
    class_names = class_names or LabelMap(tuple(n for n in names if n not in ignored)).names
    check_class_count(class_names, kind)
    splits = {s: _with_ids(first, s, class_names, kind, ignore) for s in first.splits}
    if second is not None:
        split = validation_split(second.splits)
        splits["validation"] = _with_ids(second, split, class_names, kind, ignore)
    train, validation_set, origin = training_and_validation(
        splits,
        lambda all_of: split_at_random(len(all_of), validation, seed),
        f"{validation:.0%} of the training images, seed {seed}",
    )
    if first.files:  # other masks are read lazily
        _check_varied(train)
    facts: dict[str, Any] = {
        "classes": len(class_names),
        "kind": kind,
        "ignored classes": ignored,
        "validation from": origin,
    }
    if "test" in splits:
        facts["test images, not used"] = len(splits["test"])
    warnings = [*first.warnings, *(second.warnings if second is not None else ())]
    warnings += similar_names(class_names)
    if ignored:
        warnings.append(
            f"pixels of {name_some(ignored)} are ignored in loss and metrics; list the class in "
            "class_names to train on it"
        )
    return Splits(train, validation_set, facts, tuple(warnings))


def _check_varied(train: MaskedSamples) -> None:
    """Refuse masks that are all of one class."""
    only = _only_content(train)
    if only:
        raise DataError(
            f"there is nothing to learn: the masks of all {len(train)} training images contain "
            f"{only}; check the values of the masks and the names of the classes"
        )


def _only_content(samples: MaskedSamples) -> str:
    """Describe what masks contain if it is one class; many unreadable ones are left to the data check.

    Masks are read until there are two classes.
    """
    found: set[int] = set()
    unreadable = 0
    multi_label = samples.kind == "multi_label"
    ignored = ignored_id(2 if multi_label else len(samples.class_names))
    for index in range(len(samples)):
        try:
            found |= set(np.unique(samples.target(index)).tolist()) - {ignored}
        except DataError:
            unreadable += 1
        if len(found) > 1 or unreadable > UNREADABLE_LIMIT * len(samples):
            return ""
    if not found:
        return ""
    value = found.pop()
    if not multi_label:
        return f"nothing but {samples.class_names[value]!r}"
    return "nothing but its class" if value else f"no pixel of {name_some(samples.class_names)}"


def read_evaluation(
    data: Any, class_names: tuple[str, ...], kind: str, ignore: Ignore = None
) -> EvaluationSplit:
    """Read images with masks to evaluate on.

    Args:
        data: See ``read_splits``. Uses the test split if there is one, otherwise the validation
            split, otherwise all images.
        class_names: Class names by id.
        kind: See ``read_splits``.
        ignore: See ``read_splits``.

    Returns:
        ``MaskedSamples``, their split, and warnings.

    Raises:
        DataError: There are no images, or a class is not one of the class names.
    """
    first, second = _read_pair(data)
    dataset = second or first
    split = evaluation_split(dataset.splits)
    with noticed(dataset.warnings):
        samples = _with_ids(dataset, split, class_names, kind, ignore)
    warnings = [*dataset.warnings]
    ignored = _ignored(value_names(dataset, kind, class_names), class_names, ignore)
    if ignored:
        warnings.append(f"pixels of {name_some(ignored)} are ignored in the metrics")
    only = _only_content(samples) if dataset.files else ""
    if only:
        warnings.append(
            f"the masks of all {len(samples)} evaluated images contain {only}; check the values of "
            "the masks"
        )
    return EvaluationSplit(samples, name_evaluated(split), tuple(warnings))


def check_class_count(class_names: tuple[str, ...], kind: str) -> None:
    """Check that the number of classes suits the kind of masks.

    Args:
        class_names: Class names by id.
        kind: See ``read_splits``.

    Raises:
        DataError: There are too few or too many classes.
    """
    if kind == "binary" and len(class_names) != 2:
        raise DataError(
            f"binary masks have two classes, background and foreground, not {len(class_names)}: "
            f"{name_some(class_names)}"
        )
    if len(class_names) < (1 if kind == "multi_label" else 2):
        raise DataError(f"there are too few classes to learn: {name_some(class_names) or 'none'}")


def _read_pair(data: Any) -> tuple[MaskDataset, MaskDataset | None]:
    first, second = as_pair(data) or (data, None)
    return _read(first), None if second is None else _read(second)


def _read(data: Any) -> MaskDataset:
    found = read_dataset(data)
    return replace(found, warnings=(*found.warnings, *undecided_orientation(found)))


def _ignored(names: Sequence[str], class_names: tuple[str, ...], ignore: Ignore) -> list[str]:
    return [name for name in names if is_ignored(name, names, class_names, ignore)]


def _with_ids(
    dataset: MaskDataset, split: str, class_names: tuple[str, ...], kind: str, ignore: Ignore
) -> MaskedSamples:
    multi_label = kind == "multi_label"
    if dataset.mask_per_class != multi_label:
        found = "one mask per class" if dataset.mask_per_class else "one mask per image"
        raise DataError(f"the dataset has {found}, which does not match kind={kind!r}")
    names = value_names(dataset, kind, class_names)
    if isinstance(ignore, str) and ignore not in (*names, *class_names):
        raise OptionError(f"ignore={ignore!r} is not a class{near_matches(ignore, names)}")
    if names == class_names and not multi_label and isinstance(ignore, int) and ignore < len(names):
        raise OptionError(
            f"ignore={ignore} is the class {names[ignore]!r}; remove it from class_names, and "
            "name the classes in the dataset (classes.txt)"
        )
    samples = dataset.splits[split]
    if multi_label:
        for name in names:
            if not is_ignored(name, names, class_names, ignore):
                LabelMap(class_names).id_of(name)
        samples, ids = _reorder(samples, names, class_names), presence_ids(ignore)
    elif kind == "binary" and not dataset.colors and not dataset.drawn:
        ids = with_ignored(binary_ids(dataset), ignore)
    else:
        ids = value_ids(names, class_names, ignore)
    reader = MaskReader(len(class_names), ids, dataset.colors, multi_label, dataset.gray_colors)
    return MaskedSamples(samples, reader, class_names, kind)


def _reorder(samples: Samples, names: Sequence[str], class_names: Sequence[str]) -> Samples:
    """Sort the masks of each image by class id."""
    if tuple(names) == tuple(class_names):
        return samples
    missing = [name for name in class_names if name not in names]
    if missing:
        raise DataError(f"the dataset has no masks of the classes {name_some(missing)}")
    return _ReorderedMasks(samples, tuple(list(names).index(name) for name in class_names))


@dataclass(frozen=True)
class _ReorderedMasks(WrappedSamples):
    """Images with one mask per class, in another order."""

    order: tuple[int, ...]

    def target(self, index: int) -> Any:
        masks = self.base.target(index)
        return tuple(masks[i] for i in self.order)

    def subset(self, indices: Sequence[int]) -> Samples:
        return _ReorderedMasks(self.base.subset(indices), self.order)

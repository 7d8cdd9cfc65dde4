"""From label names to class ids: one label map for all parts, a split, and remarks on the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visiongraft.data.labels import LabelMap
from visiongraft.data.samples import Splits, WrappedSamples
from visiongraft.data.splits import stratified_split
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.classification.reading import LabeledDataset, LabeledSplit, find_source

FEW_IMAGES = 5
IMBALANCE = 10
SHOWN = 5

Target = int | tuple[int, ...]


@dataclass(frozen=True)
class LabeledSamples(WrappedSamples):
    """Images whose targets are class ids, with the label map that the ids belong to.

    Attributes:
        base: The images.
        targets: A class id each or, of multi-label data, ascending class ids, maybe none.
        labels: The label map.
        multi_label: Whether images have any number of labels.
    """

    targets: tuple[Target, ...]
    labels: tuple[str, ...]
    multi_label: bool

    def target(self, index: int) -> Target:
        return self.targets[index]

    def subset(self, indices: Sequence[int]) -> LabeledSamples:
        """Take some samples, in the given order; they keep the label map."""
        targets = tuple(self.targets[i] for i in indices)
        return LabeledSamples(self.base.subset(indices), targets, self.labels, self.multi_label)

    def counts(self) -> tuple[int, ...]:
        """Count the images of each label."""
        found = Counter(i for target in self.targets for i in ids_of(target))
        return tuple(found[i] for i in range(len(self.labels)))


def ids_of(target: Target) -> tuple[int, ...]:
    """Give the class ids in a target of either kind."""
    return (target,) if isinstance(target, int) else target


def read_splits(
    data: Any,
    *,
    labels: tuple[str, ...] = (),
    multi_label: bool | None = None,
    validation: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Read a dataset to train on.

    Args:
        data: See ``find_source``.
        labels: The label map if it is fixed; else it is made of all label names in the data.
        multi_label: ``None`` decides: multi-label if any image has several labels or none.
        validation: Share to hold out where there is no validation part, in (0, 1).
        seed: Seed of that split.

    Returns:
        Training and validation samples, both ``LabeledSamples`` with the same label map.

    Raises:
        DataError: There is nothing to train on or to hold out, a label is not in the label map, or
            fewer than two labels can be told apart.
    """
    source = find_source(data, labels)
    names = LabelMap(labels or source.names).names
    if "train" not in source.splits:
        raise DataError(f"the data have no training images, only {' and '.join(source.splits)}")
    multi_label = _is_multi_label(source.splits.values()) if multi_label is None else multi_label
    parts = {p: _labeled(part, names, multi_label) for p, part in source.splits.items()}
    check_trainable(parts["train"])
    if "validation" in parts:
        train, validation_set = parts["train"], parts["validation"]
        origin = "the data's own part"
    else:
        train, validation_set = _split_off_validation(parts["train"], validation, seed)
        origin = f"{validation:.0%} of the training images, stratified by label, seed {seed}"
    facts = {
        "labels": len(names),
        "multi_label": multi_label,
        "validation from": origin,
        "training images by label": dict(zip(names, train.counts(), strict=True)),
        "validation images by label": dict(zip(names, validation_set.counts(), strict=True)),
    }
    if "test" in parts:
        facts["test images, not used"] = len(parts["test"])
    return Splits(
        train, validation_set, facts, (*source.warnings, *_remarks(train, validation_set, source))
    )


def read_labeled(data: Any, labels: tuple[str, ...], multi_label: bool) -> LabeledSamples:
    """Read images to evaluate on.

    Args:
        data: See ``find_source``; the test part is taken if there is one, else the validation
            part, else all.
        labels: The label map.
        multi_label: Whether images have any number of labels.

    Returns:
        The samples.

    Raises:
        DataError: There are none, or a label is not in the label map.
    """
    source = find_source(data, labels)
    part = next(source.splits[p] for p in ("test", "validation", "train") if p in source.splits)
    return _labeled(part, labels, multi_label)


def check_trainable(train: LabeledSamples) -> None:
    """Make sure that there is something to tell apart.

    Args:
        train: Training samples.

    Raises:
        DataError: No two labels, or of multi-label data no label that only some images have.
    """
    counts = train.counts()
    if train.multi_label:
        if not any(0 < count < len(train) for count in counts):
            raise DataError(
                "no label is on some training images and missing on others; there is nothing to "
                "learn"
            )
    elif sum(count > 0 for count in counts) < 2:
        only = [name for name, count in zip(train.labels, counts, strict=True) if count]
        raise DataError(
            f"all training images have the label {only[0]!r}; add images of another label"
        )


def _is_multi_label(parts: Any) -> bool:
    return any(len(names) != 1 for part in parts for names in part.labels)


def _labeled(part: LabeledSplit, names: tuple[str, ...], multi_label: bool) -> LabeledSamples:
    known = {name: i for i, name in enumerate(names)}
    targets: list[Target] = []
    for position, own in enumerate(part.labels):
        try:
            ids = [known[n] if n in known else LabelMap(names).id_of(n) for n in own]
        except DataError as error:
            raise DataError(f"{part.samples.name(position)}: {error}") from None
        if not multi_label and len(ids) != 1:
            raise DataError(
                f"{part.samples.name(position)} has {len(ids)} labels ({', '.join(own)}), but the "
                "task is single-label; set multi_label=True"
            )
        targets.append(tuple(sorted(ids)) if multi_label else ids[0])
    return LabeledSamples(part.samples, tuple(targets), names, multi_label)


def _split_off_validation(
    samples: LabeledSamples, fraction: float, seed: int
) -> tuple[LabeledSamples, LabeledSamples]:
    """Split by label; an image with several labels counts for the rarest, which needs it most."""
    counts = samples.counts()
    keys = [min(ids_of(t), key=lambda i: (counts[i], i), default=None) for t in samples.targets]
    kept, validation = _keep_labels(samples, *stratified_split(keys, fraction, seed))
    if not validation:
        raise DataError(
            "no label has two images, so none can be held out; add images, or give a "
            "validation part"
        )
    return samples.subset(kept), samples.subset(validation)


def _keep_labels(
    samples: LabeledSamples, kept: list[int], validation: list[int]
) -> tuple[list[int], list[int]]:
    """Take images back whose labels no other is left to teach: no image counted for them."""
    learned = {i for index in kept for i in ids_of(samples.targets[index])}
    back = set()
    for index in validation:
        if not learned.issuperset(ids_of(samples.targets[index])):
            learned.update(ids_of(samples.targets[index]))
            back.add(index)
    return sorted([*kept, *back]), [i for i in validation if i not in back]


def _remarks(
    train: LabeledSamples, validation: LabeledSamples, source: LabeledDataset
) -> list[str]:
    """Say what is odd about the labels, one line each."""
    learned = dict(zip(train.labels, train.counts(), strict=True))
    checked = dict(zip(train.labels, validation.counts(), strict=True))
    untold = [n for n in train.labels if not any(repr(n) in line for line in source.warnings)]
    absent = [n for n in untold if not learned[n] and not checked[n]]
    unlearned = [n for n in train.labels if not learned[n] and checked[n]]
    unchecked = [n for n in train.labels if learned[n] and not checked[n]]
    few = [f"{n} ({c})" for n, c in learned.items() if 0 < c < FEW_IMAGES]
    lines = []
    if absent:
        lines.append(f"labels without any image: {name_some(absent, SHOWN)}")
    if unlearned:
        lines.append(
            f"labels only in validation, which cannot be learned: {name_some(unlearned, SHOWN)}"
        )
    if unchecked:
        lines.append(
            f"labels without validation images, not measured: {name_some(unchecked, SHOWN)}"
        )
    if few:
        lines.append(
            f"labels with fewer than {FEW_IMAGES} training images: {name_some(few, SHOWN)}"
        )
    present = {n: c for n, c in learned.items() if c}
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    if present[most] >= IMBALANCE * present[least]:
        lines.append(
            f"label {most!r} has {present[most]} training images and {least!r} has "
            f"{present[least]}; the option class_weights='balanced' makes up for that"
        )
    return lines

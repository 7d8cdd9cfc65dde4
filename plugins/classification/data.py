"""Map class names to class ids, split off a validation set, and check the class balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from visiongraft.data.labels import LabelMap, similar_names
from visiongraft.data.samples import EvaluationSplit, Splits, TargetSamples
from visiongraft.data.splits import (
    evaluation_split,
    name_evaluated,
    split_by_class,
    training_and_validation,
)
from visiongraft.errors import DataError, name_some, noticed
from visiongraft.plugins.classification.reading import (
    LabeledDataset,
    LabeledSplit,
    read_dataset,
)

FEW_IMAGES = 5  # warn of classes with fewer training images
IMBALANCE = 10  # warn of a ratio of training images between two classes from here on
MAX_NAMED = 5  # class names per warning

Target = int | tuple[int, ...]


@dataclass(frozen=True)
class LabeledSamples(TargetSamples):
    """Images whose targets are class ids, with the names of the classes.

    Attributes:
        base: The images.
        targets: One class id per image or, if ``multi_label``, a possibly empty tuple of
            ascending class ids.
        class_names: Class names by id.
        multi_label: Whether an image can have any number of labels.
    """

    targets: tuple[Target, ...]
    class_names: tuple[str, ...]
    multi_label: bool

    def counts(self) -> tuple[int, ...]:
        """Count the images of each class."""
        found = Counter(i for target in self.targets for i in ids_of(target))
        return tuple(found[i] for i in range(len(self.class_names)))


def ids_of(target: Target) -> tuple[int, ...]:
    """Return the class ids of a single-label or multi-label target."""
    return (target,) if isinstance(target, int) else target


def read_splits(
    data: Any,
    *,
    class_names: tuple[str, ...] = (),
    multi_label: bool | None = None,
    validation: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Read a dataset to train on.

    Args:
        data: See ``read_dataset``.
        class_names: Class names by id; taken from the dataset if empty.
        multi_label: ``None`` for multi-label if any image has several labels or none.
        validation: Fraction of the training images to hold out if the dataset has no validation
            split, in (0, 1).
        seed: Seed of that random split.

    Returns:
        Training and validation samples, both ``LabeledSamples`` with the same class names.

    Raises:
        DataError: There are no images to train on or to hold out, a label is not one of the class
            names, or there are fewer than two classes.
    """
    dataset = read_dataset(data, class_names)
    return make_splits(dataset, class_names, multi_label, validation, seed)


def make_splits(
    dataset: LabeledDataset,
    class_names: tuple[str, ...],
    multi_label: bool | None,
    validation: float,
    seed: int,
) -> Splits:
    """Make samples to train on of a dataset that has been read; see ``read_splits``."""
    with noticed(dataset.warnings):
        return _make_splits(dataset, class_names, multi_label, validation, seed)


def _make_splits(
    dataset: LabeledDataset,
    class_names: tuple[str, ...],
    multi_label: bool | None,
    validation: float,
    seed: int,
) -> Splits:
    names = LabelMap(class_names or dataset.class_names).names
    if "train" not in dataset.splits:
        raise DataError(f"the dataset has no training images, only {' and '.join(dataset.splits)}")
    if multi_label is None:
        multi_label = _is_multi_label(dataset.splits.values())
    splits = {s: _with_ids(split, names, multi_label) for s, split in dataset.splits.items()}
    check_trainable(splits["train"])
    train, validation_set, origin = training_and_validation(
        splits,
        lambda all_of: split_by_class(
            [ids_of(target) for target in all_of.targets], all_of.counts(), validation, seed
        ),
        f"{validation:.0%} of the training images, stratified by class, seed {seed}",
    )
    facts = {
        "classes": len(names),
        "multi_label": multi_label,
        "validation from": origin,
        "training images per class": dict(zip(names, train.counts(), strict=True)),
        "validation images per class": dict(zip(names, validation_set.counts(), strict=True)),
    }
    if "test" in splits:
        facts["test images, not used"] = len(splits["test"])
    warnings = (
        *dataset.warnings,
        *similar_names(names),
        *_class_warnings(train, validation_set, dataset.warnings),
    )
    return Splits(train, validation_set, facts, warnings)


def read_evaluation(data: Any, class_names: tuple[str, ...], multi_label: bool) -> EvaluationSplit:
    """Read labeled images to evaluate on.

    Args:
        data: See ``read_dataset``. Uses the test split if there is one, otherwise the validation
            split, otherwise all images.
        class_names: Class names by id.
        multi_label: Whether an image can have any number of labels.

    Returns:
        ``LabeledSamples``, their split, and warnings.

    Raises:
        DataError: There are no images, or a label is not one of the class names.
    """
    return evaluated(read_dataset(data, class_names), class_names, multi_label)


def evaluated(
    dataset: LabeledDataset, class_names: tuple[str, ...], multi_label: bool
) -> EvaluationSplit:
    """Choose the samples to evaluate on of a dataset that has been read; see ``read_evaluation``."""
    split = evaluation_split(dataset.splits)
    with noticed(dataset.warnings):
        samples = _with_ids(dataset.splits[split], class_names, multi_label)
    absent = [name for name, n in zip(class_names, samples.counts(), strict=True) if not n]
    warnings = [*dataset.warnings]
    if absent:
        named = name_some(absent, MAX_NAMED)
        warnings.append(f"classes without images, which are not evaluated: {named}")
    return EvaluationSplit(samples, name_evaluated(split), tuple(warnings))


def check_trainable(train: LabeledSamples) -> None:
    """Check that the training samples have classes to discriminate.

    Args:
        train: Training samples.

    Raises:
        DataError: There are fewer than two classes or, if multi-label, no class that some but not
            all images have.
    """
    counts = train.counts()
    if train.multi_label:
        if not any(0 < count < len(train) for count in counts):
            raise DataError(
                "there is nothing to learn: every label is on all training images or on none of them"
            )
    elif sum(count > 0 for count in counts) < 2:
        only = [name for name, count in zip(train.class_names, counts, strict=True) if count]
        raise DataError(
            f"all training images are of class {only[0]!r}; add images of another class"
        )


def _is_multi_label(splits: Iterable[LabeledSplit]) -> bool:
    return any(len(names) != 1 for split in splits for names in split.labels)


def _with_ids(split: LabeledSplit, names: tuple[str, ...], multi_label: bool) -> LabeledSamples:
    label_map = LabelMap(names)
    targets: list[Target] = []
    for position, own in enumerate(split.labels):
        try:
            ids = [label_map.id_of(name) for name in own]
        except DataError as error:
            raise DataError(f"{split.samples.name(position)}: {error}") from None
        if not multi_label and len(ids) != 1:
            raise DataError(
                f"{split.samples.name(position)} has {len(ids)} labels ({', '.join(own)}), but the "
                "task is single-label; set multi_label=True"
            )
        targets.append(tuple(sorted(ids)) if multi_label else ids[0])
    return LabeledSamples(split.samples, tuple(targets), names, multi_label)


def _class_warnings(
    train: LabeledSamples, validation: LabeledSamples, warnings: Sequence[str]
) -> list[str]:
    """Describe missing, rare and imbalanced classes, one line each.

    Args:
        train: Training samples.
        validation: Validation samples.
        warnings: The reader's; classes without images that they mention are not repeated.
    """
    trained = dict(zip(train.class_names, train.counts(), strict=True))
    validated = dict(zip(train.class_names, validation.counts(), strict=True))
    names = train.class_names
    mentioned = {name for name in names if any(repr(name) in line for line in warnings)}
    absent = [n for n in names if not trained[n] and not validated[n] and n not in mentioned]
    untrained = [n for n in names if not trained[n] and validated[n]]
    unvalidated = [n for n in names if trained[n] and not validated[n]]
    few = [f"{n} ({c})" for n, c in trained.items() if 0 < c < FEW_IMAGES]
    findings = (
        ("classes without images", absent, "add images, or remove the classes"),
        (
            "classes without training images, which cannot be learned",
            untrained,
            "add training images, or remove the classes",
        ),
        (
            "classes without validation images, which are not evaluated",
            unvalidated,
            "add validation images",
        ),
        (
            f"classes with fewer than {FEW_IMAGES} training images",
            few,
            "add images, or join the classes with others",
        ),
    )
    lines = [
        f"{what}: {name_some(named, MAX_NAMED)}; {remedy}"
        for what, named, remedy in findings
        if named
    ]
    present = {n: c for n, c in trained.items() if c}
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    if present[most] >= IMBALANCE * present[least]:
        lines.append(
            f"the classes are imbalanced: {present[most]} training images of {most!r}, "
            f"{present[least]} of {least!r}; consider class_weights='balanced'"
        )
    return lines

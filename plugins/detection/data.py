"""Turn datasets of boxes into samples: one label map for all splits, a validation set, warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visiongraft.data.labels import LabelMap, class_name, is_background, similar_names
from visiongraft.data.samples import EvaluationSplit, Splits, TargetSamples
from visiongraft.data.splits import (
    evaluation_split,
    name_evaluated,
    split_by_class,
    training_and_validation,
)
from visiongraft.errors import DataError, name_some, noticed
from visiongraft.plugins.detection.formats.dataset import BoxDataset, BoxSplit
from visiongraft.plugins.detection.formats.reading import read_boxes
from visiongraft.plugins.detection.objects import (
    AnnotationTally,
    Objects,
    to_objects,
)
from visiongraft.plugins.detection.plausibility import check_plausible

USED = ("train", "validation")  # splits in training
SHOWN = 5  # class names in one warning


@dataclass(frozen=True)
class DetectionSamples(TargetSamples):
    """Images whose targets are ``Objects``, with the class names that their class ids refer to.

    Attributes:
        base: The images.
        targets: The objects in each.
        class_names: Class names by id.
    """

    targets: tuple[Objects, ...]
    class_names: tuple[str, ...]

    def problem(self, index: int, height: int, width: int) -> str:
        """Check that the boxes are annotated on an image of the decoded size.

        Args:
            index: Position of the sample.
            height: Height of its decoded image in pixels.
            width: Its width.

        Returns:
            A description of the problem; empty if there is none.
        """
        target = self.targets[index]
        if not target.boxes or target.size == (height, width):
            return ""
        hint = ""
        if target.size == (width, height):
            hint = "; they are for the stored pixels if EXIF rotates it, or the sides are swapped"
        return (
            f"{self.name(index)}: its boxes are for an image of {target.size[1]}x{target.size[0]} "
            f"pixels, but it has {width}x{height}{hint}"
        )

    def counts(self) -> tuple[int, ...]:
        """Count the objects of each class, without crowd regions."""
        counts = Counter(label for target in self.targets for label in target.single().labels)
        return tuple(counts[i] for i in range(len(self.class_names)))


def read_splits(
    data: Any, *, class_names: tuple[str, ...] = (), validation: float = 0.2, seed: int = 0
) -> Splits:
    """Read a dataset to train on.

    Args:
        data: See ``read_boxes``.
        class_names: Class names by id; all that the dataset has if empty.
        validation: Fraction to hold out if there is no validation split, in (0, 1).
        seed: Seed of that split.

    Returns:
        Training and validation samples, both ``DetectionSamples`` with the same class names.

    Raises:
        DataError: There is nothing to train on or to hold out, or a class is not in
            ``class_names``.
    """
    source = read_boxes(data)
    with noticed(source.warnings):
        return _make_splits(source, class_names, validation, seed)


def _make_splits(
    source: BoxDataset, class_names: tuple[str, ...], validation: float, seed: int
) -> Splits:
    names = LabelMap(class_names or source.names).names
    if "train" not in source.splits:
        raise DataError(f"the dataset has no training images, only {' and '.join(source.splits)}")
    tally = AnnotationTally()
    used = {split: source.splits[split] for split in USED if split in source.splits}
    doubts = [line for split, each in used.items() for line in check_plausible(each, split)]
    splits = {"train": _labeled(source.splits["train"], names, tally)}
    check_trainable(splits["train"], _reasons(splits["train"], source.splits["train"], tally))
    for split in [split for split in source.splits if split != "train"]:
        splits[split] = _labeled(source.splits[split], names, tally)
    unlabeled = [line for split, each in used.items() for line in _unlabeled(each, split)]
    train, validation_set, origin = training_and_validation(
        splits,
        lambda all_of: split_by_class(
            [target.single().labels for target in all_of.targets], all_of.counts(), validation, seed
        ),
        f"{validation:.0%} of the training images, stratified by class, seed {seed}",
    )
    facts: dict[str, Any] = {
        "classes": len(names),
        "validation from": origin,
        "training boxes by class": dict(zip(names, train.counts(), strict=True)),
        "validation boxes by class": dict(zip(names, validation_set.counts(), strict=True)),
        **_extremes("training", train),
        **_extremes("validation", validation_set),
        **tally.counts,
    }
    if "test" in splits:
        facts["test images, not used"] = len(splits["test"])
    remarks = (
        *source.warnings,
        *similar_names(names),
        *unlabeled,
        *doubts,
        *tally.lines(),
        *_remarks(train, validation_set),
    )
    return Splits(train, validation_set, facts, remarks)


def read_evaluation(data: Any, class_names: tuple[str, ...]) -> EvaluationSplit:
    """Read images to evaluate on.

    Args:
        data: See ``read_boxes``; the test split is read if there is one, otherwise the validation
            split, otherwise the training split.
        class_names: Class names by id.

    Returns:
        ``DetectionSamples``, their split, and warnings.

    Raises:
        DataError: There are only training images because the others are missing, or a class is not
            in ``class_names``.
    """
    source = read_boxes(data)
    if source.absent and source.splits.keys() == {"train"}:
        raise DataError(
            f"the dataset has only training images; its {' and '.join(source.absent)} images do "
            "not exist"
        )
    name = evaluation_split(source.splits)
    split, tally = source.splits[name], AnnotationTally()
    doubts = check_plausible(split, name)
    samples = _labeled(split, class_names, tally)
    annotated = any(annotation.boxes for annotation in split.annotations)
    if annotated and not any(target.boxes for target in samples.targets):
        reasons = "; ".join(_reasons(samples, split, tally))
        raise DataError(f"no image of the {name} split has a box left to evaluate on: {reasons}")
    absent = [name for name, n in zip(class_names, samples.counts(), strict=True) if not n]
    unmeasured = [f"classes without boxes, not measured: {name_some(absent, SHOWN)}"]
    warnings = (
        *source.warnings,
        *_unlabeled(split, name),
        *doubts,
        *tally.lines(),
        *(unmeasured if absent else ()),
    )
    return EvaluationSplit(samples, name_evaluated(name), warnings)


def check_trainable(train: DetectionSamples, reasons: Sequence[str] = ()) -> None:
    """Check that there are objects to train on.

    Args:
        train: Training samples.
        reasons: What may have gone wrong.

    Raises:
        DataError: No training image has a box that is not a crowd region.
    """
    if not any(train.counts()):
        cause = f": {'; '.join(reasons)}" if reasons else ""
        raise DataError(f"no training image has a box; there is nothing to learn{cause}")


def _reasons(samples: DetectionSamples, split: BoxSplit, tally: AnnotationTally) -> list[str]:
    """Return one line for each thing because of which images may have no boxes."""
    crowds = sum(sum(target.crowd) for target in samples.targets)
    absent = [samples.name(i) for i, each in enumerate(split.annotations) if each.size is None]
    lines = tally.lines()
    if absent:
        lines.append(
            f"{len(absent)} of {len(samples)} images do not exist or cannot be read: "
            f"{name_some(absent)}"
        )
    if split.unlabeled:
        lines.append(
            f"{len(split.unlabeled)} of {len(samples)} images have no label file: "
            f"{name_some(split.unlabeled)}"
        )
    empty = sum(not each.boxes and each.size is not None for each in split.annotations)
    if empty > len(split.unlabeled):
        lines.append(f"the annotations of {empty - len(split.unlabeled)} images contain no box")
    if crowds:
        lines.append(f"{crowds} boxes are crowd regions or difficult objects")
    return lines


def _unlabeled(split: BoxSplit, name: str) -> list[str]:
    count = len(split.unlabeled)
    line = (
        f"{count} of {len(split.annotations)} images of the {name} split have no label file and "
        f"are used as images without objects: {name_some(split.unlabeled)}"
    )
    return [line] if count else []


def _labeled(split: BoxSplit, names: tuple[str, ...], tally: AnnotationTally) -> DetectionSamples:
    class_ids = {class_name(name): i for i, name in enumerate(names)}
    targets = []
    for position, annotation in enumerate(split.annotations):
        location = split.samples.name(position)
        try:
            for name in set(annotation.names).difference(class_ids):
                if not is_background(name):
                    LabelMap(names).id_of(name)
        except DataError as error:
            raise DataError(f"{location}: {error}") from None
        targets.append(to_objects(annotation, class_ids, location, tally))
    return DetectionSamples(split.samples, tuple(targets), names)


def _extremes(split: str, samples: DetectionSamples) -> dict[str, int]:
    return {
        f"{split} images without boxes": sum(not t.single().boxes for t in samples.targets),
        f"{split} crowd regions": sum(sum(t.crowd) for t in samples.targets),
    }


def _remarks(train: DetectionSamples, validation: DetectionSamples) -> list[str]:
    """Return one warning for each kind of class that lacks training or validation boxes."""
    trained = dict(zip(train.class_names, train.counts(), strict=True))
    validated = dict(zip(train.class_names, validation.counts(), strict=True))
    absent = [n for n in train.class_names if not trained[n] and not validated[n]]
    unlearned = [n for n in train.class_names if not trained[n] and validated[n]]
    unchecked = [n for n in train.class_names if trained[n] and not validated[n]]
    remarks = {
        "classes without any box": absent,
        "classes only in validation, which cannot be learned": unlearned,
        "classes without validation boxes, not measured": unchecked,
    }
    return [f"{what}: {name_some(names, SHOWN)}" for what, names in remarks.items() if names]

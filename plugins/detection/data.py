"""From boxes with label names to targets: one label map for all parts, a split, and remarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visiongraft.data.labels import LabelMap
from visiongraft.data.samples import Splits, WrappedSamples
from visiongraft.data.splits import stratified_split
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.formats.dataset import BoxSplit
from visiongraft.plugins.detection.formats.reading import find_source
from visiongraft.plugins.detection.objects import AnnotationTally, Objects, to_objects

SHOWN = 5


@dataclass(frozen=True)
class DetectionSamples(WrappedSamples):
    """Images whose targets are ``Objects``, with the label map that their class ids belong to.

    Attributes:
        base: The images.
        targets: The objects in each.
        labels: The label map.
    """

    targets: tuple[Objects, ...]
    labels: tuple[str, ...]

    def target(self, index: int) -> Objects:
        return self.targets[index]

    def problem(self, index: int, height: int, width: int) -> str:
        """Say whether boxes and image belong together.

        Args:
            index: Position of the sample.
            height: Height of its decoded image in pixels.
            width: Its width.

        Returns:
            What is wrong, or nothing.
        """
        target = self.targets[index]
        if not target.boxes or target.size == (height, width):
            return ""
        return (
            f"{self.name(index)}: its boxes are for an image of {target.size[1]}x{target.size[0]} "
            f"pixels, but it has {width}x{height}"
        )

    def subset(self, indices: Sequence[int]) -> DetectionSamples:
        """Take some samples, in the given order; they keep the label map."""
        targets = tuple(self.targets[i] for i in indices)
        return DetectionSamples(self.base.subset(indices), targets, self.labels)

    def counts(self) -> tuple[int, ...]:
        """Count the objects of each label, without crowd regions."""
        found = Counter(label for target in self.targets for label in target.single().labels)
        return tuple(found[i] for i in range(len(self.labels)))


def read_splits(
    data: Any, *, labels: tuple[str, ...] = (), validation: float = 0.2, seed: int = 0
) -> Splits:
    """Read a dataset to train on.

    Args:
        data: See ``find_source``.
        labels: The label map if it is fixed; else it is made of all label names in the data.
        validation: Share to hold out where there is no validation part, in (0, 1).
        seed: Seed of that split.

    Returns:
        Training and validation samples, both ``DetectionSamples`` with the same label map.

    Raises:
        DataError: There is nothing to train on or to hold out, or a label is not in the label map.
    """
    source = find_source(data)
    names = LabelMap(labels or source.names).names
    if "train" not in source.splits:
        raise DataError(f"the data have no training images, only {' and '.join(source.splits)}")
    parts = {p: _labeled(part, names, source.tally) for p, part in source.splits.items()}
    check_trainable(parts["train"])
    if "validation" in parts:
        train, validation_set = parts["train"], parts["validation"]
        origin = "the data's own part"
    else:
        train, validation_set = _split_off_validation(parts["train"], validation, seed)
        origin = f"{validation:.0%} of the training images, stratified by label, seed {seed}"
    facts: dict[str, Any] = {
        "labels": len(names),
        "validation from": origin,
        "training boxes by label": dict(zip(names, train.counts(), strict=True)),
        "validation boxes by label": dict(zip(names, validation_set.counts(), strict=True)),
        **_extremes("training", train),
        **_extremes("validation", validation_set),
        **source.tally.counts,
    }
    if "test" in parts:
        facts["test images, not used"] = len(parts["test"])
    remarks = (*source.warnings, *source.tally.lines(), *_remarks(train, validation_set))
    return Splits(train, validation_set, facts, remarks)


def read_evaluation(data: Any, labels: tuple[str, ...]) -> DetectionSamples:
    """Read images to evaluate on.

    Args:
        data: See ``find_source``; the test part is taken if there is one, else the validation
            part, else all.
        labels: The label map.

    Returns:
        The samples.

    Raises:
        DataError: There are none but training images because the others are missing, or a label
            is not in the label map.
    """
    source = find_source(data)
    if source.absent and source.splits.keys() == {"train"}:
        raise DataError(
            f"the data have only training images; the {' and '.join(source.absent)} images "
            "that they name are not there"
        )
    part = next(source.splits[p] for p in ("test", "validation", "train") if p in source.splits)
    return _labeled(part, labels, source.tally)


def check_trainable(train: DetectionSamples) -> None:
    """Make sure that there is something to find.

    Args:
        train: Training samples.

    Raises:
        DataError: No training image has a box that counts.
    """
    if not any(train.counts()):
        raise DataError("no training image has a box; there is nothing to learn")


def _labeled(part: BoxSplit, names: tuple[str, ...], tally: AnnotationTally) -> DetectionSamples:
    known = {name: i for i, name in enumerate(names)}
    targets = []
    for position, annotation in enumerate(part.annotations):
        place = part.samples.name(position)
        try:
            for name in set(annotation.names).difference(known):
                LabelMap(names).id_of(name)
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
        targets.append(to_objects(annotation, known, place, tally))
    return DetectionSamples(part.samples, tuple(targets), names)


def _split_off_validation(
    samples: DetectionSamples, fraction: float, seed: int
) -> tuple[DetectionSamples, DetectionSamples]:
    """Split by label; an image counts for its rarest label, which needs it most."""
    counts = samples.counts()
    keys = [
        min(t.single().labels, key=lambda i: (counts[i], i), default=-1) for t in samples.targets
    ]
    kept, validation = stratified_split(keys, fraction, seed)
    learned = {i for index in kept for i in samples.targets[index].single().labels}
    back = set()
    for index in validation:
        own = set(samples.targets[index].single().labels)
        if not own <= learned:  # no other image is left to teach them
            learned |= own
            back.add(index)
    kept, validation = sorted([*kept, *back]), [i for i in validation if i not in back]
    if not validation:
        raise DataError(
            "no label has two images, so none can be held out; add images, or give a "
            "validation part"
        )
    return samples.subset(kept), samples.subset(validation)


def _extremes(part: str, samples: DetectionSamples) -> dict[str, int]:
    return {
        f"{part} images without boxes": sum(not t.single().boxes for t in samples.targets),
        f"{part} crowd regions": sum(sum(t.crowd) for t in samples.targets),
    }


def _remarks(train: DetectionSamples, validation: DetectionSamples) -> list[str]:
    """Say what is odd about the labels, one line each."""
    learned = dict(zip(train.labels, train.counts(), strict=True))
    checked = dict(zip(train.labels, validation.counts(), strict=True))
    absent = [n for n in train.labels if not learned[n] and not checked[n]]
    unlearned = [n for n in train.labels if not learned[n] and checked[n]]
    unchecked = [n for n in train.labels if learned[n] and not checked[n]]
    lines = []
    if absent:
        lines.append(f"labels without any box: {name_some(absent, SHOWN)}")
    if unlearned:
        lines.append(
            f"labels only in validation, which cannot be learned: {name_some(unlearned, SHOWN)}"
        )
    if unchecked:
        lines.append(
            f"labels without validation boxes, not measured: {name_some(unchecked, SHOWN)}"
        )
    return lines

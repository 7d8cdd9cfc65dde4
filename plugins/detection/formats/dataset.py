"""The result of reading any format: images with boxes and class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visiongraft.data.samples import Samples
from visiongraft.plugins.detection.objects import Annotation, is_background


@dataclass(frozen=True)
class BoxSplit:
    """One split of a dataset: images and their annotations.

    Attributes:
        samples: The images; their targets are not used.
        annotations: One for each image.
    """

    samples: Samples
    annotations: Sequence[Annotation]


@dataclass(frozen=True)
class BoxDataset:
    """A dataset as it is on disk.

    Attributes:
        splits: By ``"train"``, ``"validation"`` and ``"test"``, those that have images; a dataset
            without splits is all ``"train"``.
        names: All class names in the order of their ids, including those without boxes, without
            background.
        warnings: One line for each thing that was skipped.
        absent: Splits that the dataset refers to, but that do not exist.
    """

    splits: dict[str, BoxSplit]
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def in_order(*lists: Sequence[str]) -> tuple[str, ...]:
    """Merge lists of class names in order of appearance, without background."""
    joined = dict.fromkeys(name for names in lists for name in names)
    return tuple(name for name in joined if not is_background(name))

"""The result of reading any format: images with boxes and class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from visiongraft.data.labels import is_background
from visiongraft.data.samples import Samples
from visiongraft.plugins.detection.objects import Annotation

Layout = Literal["corners", "size", "center"]
Unit = Literal["pixels", "fractions"]


@dataclass(frozen=True)
class BoxForm:
    """What the four numbers of a box mean in a format.

    Attributes:
        layout: ``"corners"`` (x1, y1, x2, y2), ``"size"`` (x1, y1, width, height) or ``"center"``
            (center x, center y, width, height).
        unit: ``"pixels"``, or ``"fractions"`` of the width and height of the image.
    """

    layout: Layout = "corners"
    unit: Unit = "pixels"


@dataclass(frozen=True)
class BoxSplit:
    """One split of a dataset: images and their annotations.

    Attributes:
        samples: The images; their targets are not used.
        annotations: One for each image.
        form: What the numbers of a box meant where they were read.
        unlabeled: Names of images that have no label file, and so no boxes.
    """

    samples: Samples
    annotations: Sequence[Annotation]
    form: BoxForm = BoxForm()
    unlabeled: tuple[str, ...] = ()


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

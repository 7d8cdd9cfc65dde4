"""The target of detection: the objects in one image, and what is done about odd ones.

Coordinates are x1, y1, x2, y2 in pixels; 0 is the image's left or upper edge, its width or height
the other one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from visiongraft.errors import name_some

Box = tuple[float, float, float, float]

THINNEST = 0.1  # pixels; a narrower box has no area to speak of, and regressing to it diverges
OVERHANG = 1.0  # pixels; annotators' rounding, cut off without a word

CUT = "boxes that reached out of their image were cut at its edge"
OUTSIDE = "boxes outside of their image were left out"
EMPTY = "boxes without area were left out"
TWICE = "boxes that were listed twice were taken once"


@dataclass(frozen=True)
class Objects:
    """The objects in one image.

    Attributes:
        boxes: One box per object, in pixels of an image of ``size``, inside of it.
        labels: Class id of each object.
        size: Height and width of that image: its own, or after augmentation the network's.
        crowd: Whether each is a region of many objects, or one too hard to see, that neither
            trains nor counts in the metrics.
        areas: Area of each object in square pixels, by which metrics sort it into small, medium
            and large; that of its outline where the data have one.
    """

    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    size: tuple[int, int]
    crowd: tuple[bool, ...]
    areas: tuple[float, ...]

    def single(self) -> Objects:
        """Leave out crowd regions."""
        kept = [i for i, crowd in enumerate(self.crowd) if not crowd]
        return Objects(
            tuple(self.boxes[i] for i in kept),
            tuple(self.labels[i] for i in kept),
            self.size,
            (False,) * len(kept),
            tuple(self.areas[i] for i in kept),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Give the objects as tensors.

        Returns:
            ``boxes`` float32 (n, 4), ``labels`` int64 (n,), ``crowd`` bool (n,), ``areas`` float32
            (n,), and ``size`` int64 (2,).
        """
        return {
            "boxes": torch.tensor(self.boxes, dtype=torch.float32).view(-1, 4),
            "labels": torch.tensor(self.labels, dtype=torch.int64),
            "crowd": torch.tensor(self.crowd, dtype=torch.bool),
            "areas": torch.tensor(self.areas, dtype=torch.float32),
            "size": torch.tensor(self.size, dtype=torch.int64),
        }


@dataclass(frozen=True)
class Annotation:
    """What the data say about one image.

    Attributes:
        boxes: As they were found.
        names: Label name of each box.
        size: Height and width of the image they are meant for, or ``None`` if nobody knows.
        crowd: Whether each is a crowd region; all are not if empty.
        areas: Area of each object, ``None`` for that of its box; all are if empty.
    """

    boxes: Sequence[Box]
    names: Sequence[str]
    size: tuple[int, int] | None
    crowd: Sequence[bool] = ()
    areas: Sequence[float | None] = ()


@dataclass
class AnnotationTally:
    """Counts what was odd about the boxes, and in which images.

    Attributes:
        counts: How many boxes, by what was done about them.
        places: The images, by the same words.
    """

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, what: str, place: str) -> None:
        """Count one."""
        self.counts[what] += 1
        if place not in self.places[what][-1:]:
            self.places[what].append(place)

    def lines(self) -> list[str]:
        """Say all of it, one line each."""
        return [f"{n} {what}: {name_some(self.places[what])}" for what, n in self.counts.items()]


def to_objects(
    annotation: Annotation, known: Mapping[str, int], place: str, tally: AnnotationTally
) -> Objects:
    """Bring the boxes of one image into order.

    Boxes are cut at the image's edges; those outside, without area, or listed twice are left out.

    Args:
        annotation: What the data say.
        known: Class id of each label name.
        place: Name of the image.
        tally: Counts what was odd.

    Returns:
        The objects. Of an image of unknown size, which cannot be read, there are none.
    """
    if annotation.size is None:
        return Objects((), (), (1, 1), (), ())
    height, width = annotation.size
    found: dict[tuple[Box, int, bool], float] = {}
    for i, (box, name) in enumerate(zip(annotation.boxes, annotation.names, strict=True)):
        crowd = bool(annotation.crowd[i]) if annotation.crowd else False
        area = annotation.areas[i] if annotation.areas else None
        whole = _inside(box, height, width, place, tally)
        if whole is None:
            continue
        key = (whole, known[name], crowd)
        if key in found:
            tally.add(TWICE, place)
            continue
        found[key] = _area(whole) if area is None or not 0 < area < math.inf else float(area)
    boxes, labels, crowds = zip(*found, strict=True) if found else ((), (), ())
    return Objects(boxes, labels, annotation.size, crowds, tuple(found.values()))


def scaled_boxes(target: Mapping[str, Tensor], size: Tensor) -> dict[str, Tensor]:
    """Bring the boxes that train to the network's pixels.

    Args:
        target: What ``Objects.tensors`` gave.
        size: int64 (2,), height and width of the network input.

    Returns:
        ``boxes`` float32 (n, 4) and ``labels`` int64 (n,), without crowd regions.
    """
    kept = ~target["crowd"]
    scale = (size.to(torch.float32) / target["size"].to(torch.float32)).flip(0).repeat(2)
    return {"boxes": target["boxes"][kept] * scale, "labels": target["labels"][kept]}


def _inside(box: Box, height: int, width: int, place: str, tally: AnnotationTally) -> Box | None:
    x1, y1, x2, y2 = (float(value) for value in box)
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 - x1 < THINNEST or y2 - y1 < THINNEST:
        tally.add(EMPTY, place)
        return None
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if cut[2] - cut[0] < THINNEST or cut[3] - cut[1] < THINNEST:
        tally.add(OUTSIDE, place)
        return None
    if max(abs(a - b) for a, b in zip(cut, (x1, y1, x2, y2), strict=True)) > OVERHANG:
        tally.add(CUT, place)
    return cut


def _area(box: Any) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))

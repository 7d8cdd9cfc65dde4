"""The target of detection: the objects in one image, and the cleaning of faulty boxes.

Coordinates are x1, y1, x2, y2 in pixels, from 0 at the left and upper edge of the image to its width
and height.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from visiongraft.data.labels import is_background
from visiongraft.errors import name_some

Box = tuple[float, float, float, float]

MIN_SIDE = 0.1  # pixels; a narrower box has no area to speak of, and regressing to it diverges
TOLERANCE = 1.0  # pixels; boxes reach so far out of the image by rounding, clipped without warning

SKIPPED = "boxes labeled as background were skipped"
CLIPPED = "boxes that extended beyond their image were clipped to it"
OUTSIDE = "boxes outside of their image were dropped"
NO_AREA = "boxes without area were dropped"
DUPLICATE = "boxes that were listed twice were used once"


@dataclass(frozen=True)
class Objects:
    """The objects in one image.

    Attributes:
        boxes: One box per object, in pixels of an image of ``size``, inside of it.
        labels: Class id of each object.
        size: Height and width of that image: its own, or after augmentation the network's.
        crowd: Whether each is a crowd region (of many objects, or of one that is hard to see), used
            neither in training nor in the metrics.
        areas: Area of each object in square pixels, by which metrics group it into small, medium
            and large; that of its outline if the dataset has one.
    """

    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    size: tuple[int, int]
    crowd: tuple[bool, ...]
    areas: tuple[float, ...]

    def single(self) -> Objects:
        """Return the objects without crowd regions."""
        kept = [i for i, crowd in enumerate(self.crowd) if not crowd]
        return Objects(
            tuple(self.boxes[i] for i in kept),
            tuple(self.labels[i] for i in kept),
            self.size,
            (False,) * len(kept),
            tuple(self.areas[i] for i in kept),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Convert the objects to tensors.

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
    """The annotation of one image, as read from a dataset.

    Attributes:
        boxes: The boxes, not cleaned.
        names: Class name of each box, maybe background.
        size: Height and width of the annotated image, or ``None`` if unknown.
        crowd: Whether each is a crowd region; empty if none is.
        areas: Area of each object, ``None`` for that of its box; empty if all are ``None``.
        turned: Whether EXIF rotates or mirrors the image and the annotation has no size that
            tells whether its boxes lie on the stored pixels or on the upright image.
    """

    boxes: Sequence[Box]
    names: Sequence[str]
    size: tuple[int, int] | None
    crowd: Sequence[bool] = ()
    areas: Sequence[float | None] = ()
    turned: bool = False


@dataclass
class AnnotationTally:
    """Count the faulty boxes of a dataset, and list their images.

    Attributes:
        counts: Number of boxes by what was done about them.
        locations: The images, by the same keys.
    """

    counts: Counter[str] = field(default_factory=Counter)
    locations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, what: str, location: str) -> None:
        """Count one box."""
        self.counts[what] += 1
        if location not in self.locations[what][-1:]:
            self.locations[what].append(location)

    def lines(self) -> list[str]:
        """Return one line for each kind of fault."""
        return [f"{n} {what}: {name_some(self.locations[what])}" for what, n in self.counts.items()]


def to_objects(
    annotation: Annotation, class_ids: Mapping[str, int], location: str, tally: AnnotationTally
) -> Objects:
    """Clean the boxes of one image.

    Boxes are clipped to the image; those of background, outside of the image, without area, or
    listed twice are dropped.

    Args:
        annotation: The boxes as read from the dataset.
        class_ids: Class id of each class name but background.
        location: Name of the image.
        tally: Counts the faulty boxes.

    Returns:
        The objects; none for an image of unknown size, since it cannot be read.
    """
    if annotation.size is None:
        return Objects((), (), (1, 1), (), ())
    height, width = annotation.size
    cleaned: dict[tuple[Box, int, bool], float] = {}
    for i, (box, name) in enumerate(zip(annotation.boxes, annotation.names, strict=True)):
        if is_background(name):
            tally.add(SKIPPED, location)
            continue
        crowd = bool(annotation.crowd[i]) if annotation.crowd else False
        area = annotation.areas[i] if annotation.areas else None
        clipped = _clip(box, height, width, location, tally)
        if clipped is None:
            continue
        key = (clipped, class_ids[name], crowd)
        if key in cleaned:
            tally.add(DUPLICATE, location)
            continue
        cleaned[key] = _area(clipped) if area is None or not 0 < area < math.inf else float(area)
    boxes, labels, crowds = zip(*cleaned, strict=True) if cleaned else ((), (), ())
    return Objects(boxes, labels, annotation.size, crowds, tuple(cleaned.values()))


def shown_sizes(sizes: Tensor, network: Tensor, letterbox: bool) -> Tensor:
    """Find which height and width of images the network's input shows, with what a letterbox adds.

    Args:
        sizes: int64 (..., 2), heights and widths of images.
        network: int64 (2,), height and width of the network input.
        letterbox: Whether images are filled up to its aspect ratio, see ``Preprocess.filled``.

    Returns:
        float32 (..., 2).

    Examples:
        >>> shown_sizes(torch.tensor([300, 400]), torch.tensor([224, 224]), letterbox=True)
        tensor([400., 400.])
    """
    if letterbox:
        filled = -torch.div(-sizes.flip(-1) * network, network.flip(0), rounding_mode="floor")
        sizes = torch.maximum(sizes, filled)
    return sizes.to(torch.float32)


def scaled_boxes(
    target: Mapping[str, Tensor], size: Tensor, letterbox: bool = False
) -> dict[str, Tensor]:
    """Scale the boxes to train on to the size of the network input.

    Args:
        target: The result of ``Objects.tensors``.
        size: int64 (2,), height and width of the network input.
        letterbox: See ``shown_sizes``.

    Returns:
        ``boxes`` float32 (n, 4) and ``labels`` int64 (n,), without crowd regions.
    """
    kept = ~target["crowd"]
    shown = shown_sizes(target["size"], size, letterbox)
    scale = (size.to(torch.float32) / shown).flip(0).repeat(2)
    return {"boxes": target["boxes"][kept] * scale, "labels": target["labels"][kept]}


def _clip(box: Box, height: int, width: int, location: str, tally: AnnotationTally) -> Box | None:
    x1, y1, x2, y2 = (float(value) for value in box)
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 - x1 < MIN_SIDE or y2 - y1 < MIN_SIDE:
        tally.add(NO_AREA, location)
        return None
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if clipped[2] - clipped[0] < MIN_SIDE or clipped[3] - clipped[1] < MIN_SIDE:
        tally.add(OUTSIDE, location)
        return None
    if max(abs(a - b) for a, b in zip(clipped, (x1, y1, x2, y2), strict=True)) > TOLERANCE:
        tally.add(CLIPPED, location)
    return clipped


def _area(box: Any) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))

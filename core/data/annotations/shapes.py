"""Shapes that people draw on images with annotation tools, in pixels.

Coordinates run from 0 at the left and upper edge of the image to its width and height, so that the
center of the first pixel is at 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Point = tuple[float, float]
Corners = tuple[float, float, float, float]  # x1, y1, x2, y2


@dataclass(frozen=True)
class Rectangle:
    """A box.

    Attributes:
        corners: x1, y1, x2, y2.
    """

    corners: Corners

    def box(self) -> Corners:
        """Return x1, y1, x2, y2."""
        return self.corners


@dataclass(frozen=True)
class Polygon:
    """An outline.

    Attributes:
        points: At least one point; the last is connected with the first.
    """

    points: tuple[Point, ...]

    def box(self) -> Corners:
        """Return the box around the points."""
        return around(self.points)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse or circle.

    Attributes:
        center: Its center.
        radii: Half of its width and half of its height.
    """

    center: Point
    radii: Point

    def box(self) -> Corners:
        """Return the box around it."""
        (x, y), (width, height) = self.center, self.radii
        return x - width, y - height, x + width, y + height


@dataclass(frozen=True)
class Bitmap:
    """A mask of a part of the image, kept as it is written: many readers need its box only.

    Attributes:
        corners: x1, y1, x2, y2 of that part.
        content: The mask.
        encoding: ``"runs"``: lengths of runs of pixels that are alternately outside and inside, row
            by row; or ``"png"``: a PNG file in base64 whose pixels are not 0 inside.
    """

    corners: Corners
    content: str
    encoding: Literal["runs", "png"]

    def box(self) -> Corners:
        """Return x1, y1, x2, y2 of the part of the image."""
        return self.corners


Region = Rectangle | Polygon | Ellipse | Bitmap


@dataclass(frozen=True)
class Shape:
    """One shape.

    Attributes:
        kind: What the tool calls it, for messages.
        region: What it covers; ``None`` for points, lines, tags and the like.
        label: Class name; empty only without a region.
        group: Shapes of the same label and group show one object; ``None`` for a shape of its own.
        degrees: Angle by which the region is rotated about the center of its box.
        order: Shapes of a higher order lie above others; of two that are equal, the later one.
        ignored: Whether the shape marks what is not to be used.
    """

    kind: str
    region: Region | None = None
    label: str = ""
    group: str | None = None
    degrees: float = 0.0
    order: int = 0
    ignored: bool = False

    @property
    def rotates(self) -> bool:
        """Whether the region is rotated."""
        return bool(self.degrees % 360)

    def box(self) -> Corners:
        """Return the upright box around the region, or around its box if it is rotated."""
        assert self.region is not None
        box = self.region.box()
        return rotated(box, self.degrees) if self.rotates else box


@dataclass(frozen=True)
class ShapeImage:
    """One image and its shapes.

    Attributes:
        path: The image; it may not exist.
        where: The annotation file, and the image if the file has several, for messages.
        shapes: Its shapes, in the order of the file.
        size: Height and width of the annotated image, or ``None`` if unknown.
        turned: Whether EXIF rotates or mirrors the image and the annotation has no size that tells
            whether its shapes lie on the stored pixels or on the upright image.
    """

    path: Path
    where: str
    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None
    turned: bool = False


@dataclass(frozen=True)
class ShapeDataset:
    """A dataset of shapes as it is on disk.

    Attributes:
        splits: The images of ``"train"``, ``"validation"`` and ``"test"``, those that have images.
        names: Class names in the order in which the dataset lists them; empty if it does not.
        warnings: One line for each thing that was skipped.
    """

    splits: dict[str, list[ShapeImage]]
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def images(self) -> list[ShapeImage]:
        """Return the images of all splits."""
        return [image for images in self.splits.values() for image in images]


def around(points: Sequence[Point]) -> Corners:
    """Return the box around points.

    Args:
        points: At least one pair of x and y.
    """
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def rotated(box: Corners, degrees: float) -> Corners:
    """Return the box around a box that is rotated about its center.

    Args:
        box: x1, y1, x2, y2.
        degrees: Angle in degrees.

    Examples:
        >>> [round(value) for value in rotated((0.0, 0.0, 4.0, 2.0), 90.0)]
        [1, -1, 3, 3]
    """
    x1, y1, x2, y2 = box
    sine, cosine = (abs(f(math.radians(degrees))) for f in (math.sin, math.cos))
    half_width = ((x2 - x1) * cosine + (y2 - y1) * sine) / 2
    half_height = ((x2 - x1) * sine + (y2 - y1) * cosine) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height

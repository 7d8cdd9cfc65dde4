"""Rasterize the regions of shapes: a pixel belongs to a region that contains its center."""

from __future__ import annotations

import base64
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.annotations.shapes import (
    Bitmap,
    Corners,
    Ellipse,
    Rectangle,
    Shape,
)
from visiongraft.data.decode import MAX_PIXELS, open_image
from visiongraft.data.parsing import parse_number, show_value
from visiongraft.errors import DataError

ELLIPSE_POINTS = 360  # of the outline that replaces an ellipse: less than 0.04 % of its radius off
FARTHEST = 1e9  # pixels; no image has coordinates beyond it
MAX_CROSSINGS = 10_000_000  # of an outline and the rows of pixels, which bounds the memory

Points = NDArray[np.float64]
Pixels = NDArray[np.bool_]


class Patch(NamedTuple):
    """Pixels of a part of an image.

    Attributes:
        top: First row of that part.
        left: First column of it.
        inside: bool (height, width).
    """

    top: int
    left: int
    inside: Pixels


def covers_pixels(box: Corners, size: tuple[int, int] | None) -> bool:
    """Check whether the center of a pixel of the image lies in a box.

    Args:
        box: x1, y1, x2, y2.
        size: Height and width of the image; if unknown, any pixel counts.
    """
    if not all(abs(value) < FARTHEST for value in box):
        return False
    height, width = size or (FARTHEST, FARTHEST)
    x1, y1, x2, y2 = box
    return all(
        math.ceil(max(low, 0) - 0.5) < math.ceil(min(high, side) - 0.5)
        for low, high, side in ((x1, x2, width), (y1, y2, height))
    )


def rasterize(shape: Shape, size: tuple[int, int], where: str) -> Patch:
    """Find the pixels of a shape.

    Args:
        shape: A shape that covers an area.
        size: Height and width of the image.
        where: The annotation file, for messages.

    Returns:
        The part of the image that the shape lies in, and which pixels belong to it.

    Raises:
        DataError: The mask is damaged, or the outline has too many points.
    """
    if isinstance(shape.region, Bitmap):
        return _placed(shape.region, size, f"{where}: a mask of {shape.label!r}")
    points = _outline(shape)
    if shape.rotates:
        points = _rotated(points, shape.degrees)
    return _filled(points, size, where)


def _outline(shape: Shape) -> Points:
    if isinstance(shape.region, Rectangle):
        x1, y1, x2, y2 = shape.region.corners
        return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)
    if isinstance(shape.region, Ellipse):
        angles = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return np.array(shape.region.center) + circle * shape.region.radii
    assert not isinstance(shape.region, Bitmap) and shape.region is not None
    return np.array(shape.region.points, np.float64)


def _rotated(points: Points, degrees: float) -> Points:
    """Rotate points clockwise, as y points down, about the center of the box around them."""
    center = (points.min(0) + points.max(0)) / 2
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    turned: Points = (points - center) @ np.array([[cosine, sine], [-sine, cosine]]) + center
    return turned


def _filled(points: Points, size: tuple[int, int], where: str) -> Patch:
    """Fill an outline; where it crosses itself, by the even-odd rule."""
    low = np.clip(np.floor(points.min(0)), 0, size[::-1]).astype(int)
    high = np.clip(np.ceil(points.max(0)), low, size[::-1]).astype(int)
    (left, top), (width, height) = low.tolist(), (high - low).tolist()
    starts = points - low - 0.5  # centers of pixels become integers
    ends = np.roll(starts, -1, axis=0)
    upper, lower = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first = np.clip(np.ceil(upper), 0, height).astype(int)
    counts = np.clip(np.ceil(lower), 0, height).astype(int) - first
    if counts.sum() > MAX_CROSSINGS:
        raise DataError(f"{where}: an outline of {len(points)} points is too long; simplify it")
    edges = np.repeat(np.arange(len(points)), counts)
    rows = np.arange(len(edges)) - np.repeat(counts.cumsum() - counts, counts) + first[edges]
    steps = ends[edges] - starts[edges]
    across = starts[edges, 0] + (rows - starts[edges, 1]) * steps[:, 0] / steps[:, 1]
    columns = np.clip(np.ceil(across), 0, width).astype(int)
    changes = np.zeros((height, width + 1), np.bool_)
    np.logical_xor.at(changes, (rows, columns), True)
    inside: Pixels = np.logical_xor.accumulate(changes, axis=1)[:, :width]
    return Patch(top, left, inside)


def _placed(bitmap: Bitmap, size: tuple[int, int], where: str) -> Patch:
    """Decode a mask, and cut off what is outside of the image."""
    if not all(value.is_integer() for value in bitmap.corners):
        raise DataError(f"{where} is not placed at whole pixels: {bitmap.corners}")
    left, top, right, bottom = map(int, bitmap.corners)
    shape = (bottom - top, right - left)
    if min(shape) < 1 or shape[0] * shape[1] > MAX_PIXELS:
        raise DataError(f"{where} has {shape[1]}x{shape[0]} pixels")
    decode = _from_runs if bitmap.encoding == "runs" else _from_png
    inside = decode(bitmap.content, shape, where)
    cut = inside[max(-top, 0) : max(size[0] - top, 0), max(-left, 0) : max(size[1] - left, 0)]
    return Patch(max(top, 0), max(left, 0), cut)


def _from_runs(content: str, shape: tuple[int, int], where: str) -> Pixels:
    runs = [number for text in content.split(",") if (number := parse_number(text)) is not None]
    if len(runs) != content.count(",") + 1 or sum(runs) != shape[0] * shape[1]:
        raise DataError(
            f"{where} has the run lengths {show_value(content)}; expected numbers that add up to "
            f"{shape[1]} x {shape[0]}"
        )
    inside: Pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)
    return inside


def _from_png(content: str, shape: tuple[int, int], where: str) -> Pixels:
    try:
        file = base64.b64decode(content, validate=True)
    except ValueError as error:
        raise DataError(f"{where} is not a PNG file in base64: {error}") from error
    with open_image(file, where) as image:
        if (image.height, image.width) != shape:
            raise DataError(
                f"it has {image.width}x{image.height} pixels, but lies in a box of "
                f"{shape[1]}x{shape[0]}"
            )
        inside: Pixels = np.array(image.convert("L")) > 0
    return inside

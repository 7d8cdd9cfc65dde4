"""Check the boxes of a whole split for coordinates of another form than the format's.

One box of a wrong size tells nothing, but if most boxes do not fit their images as the format has
them, and all fit in another form, then that is the form that they were written in.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.formats.dataset import BoxForm, BoxSplit, Layout, Unit
from visiongraft.plugins.detection.objects import Annotation

Array = NDArray[np.float64]

TOLERANCE = 0.01  # of the side of the image, or a pixel, that a box may reach beyond it
USUAL = 0.9  # fraction of boxes that fit their images in a sound split
SURE = 0.95  # fraction of boxes that must fit in another form
SURE_COUNT = 10  # boxes that suffice to be sure of another layout
FEW = 3  # boxes that suffice to suspect another layout
AREA_TOLERANCE = 0.01  # of a listed area, by which rounded coordinates may change it

LAYOUTS: dict[Layout, str] = {
    "corners": "x1, y1, x2, y2",
    "size": "x, y, width, height",
    "center": "center x, center y, width, height",
}
UNITS: dict[Unit, str] = {"pixels": "in pixels", "fractions": "in fractions of the image (0..1)"}


def check_plausible(split: BoxSplit, name: str) -> list[str]:
    """Check that the boxes of a split fit their images in the form of its format.

    Args:
        split: Images and boxes as they were read, before they are cleaned.
        name: Name of the split, for messages.

    Returns:
        One line for a warning on each suspicion.

    Raises:
        DataError: Most boxes do not fit, but do in another form, or have the listed areas in
            another layout only; or every box is under a pixel.
    """
    warnings = _undecided(split, name)
    boxes, sizes, images = _collect(split)
    if not len(boxes):
        return warnings
    _check_areas(split, name, boxes, sizes)
    fitting = _fits(boxes, sizes)
    count, total = int((~fitting).sum()), len(boxes)
    if count <= (1 - USUAL) * total:
        return warnings
    first = split.samples.name(int(images[~fitting][0]))
    what = f"{count} of {total} boxes of the {name} split"
    with np.errstate(invalid="ignore", over="ignore"):  # of coordinates that are not finite
        values = _values(boxes, sizes, split.form)
        converted = {form: _boxes(values, sizes, form) for form in _others(split.form)}
    for form, others in converted.items():
        better = int(_fits(others, sizes).sum())
        if better < SURE * total:
            continue
        cause = (
            f"{what} do not fit their images as {_describe(split.form)}, but {better} do as "
            f"{_describe(form)}; convert them (first: {first})"
        )
        sure = form.unit != split.form.unit or total >= SURE_COUNT
        if sure and count > total / 2:
            raise DataError(cause)
        return [*warnings, cause] if total >= FEW or sure else warnings
    with np.errstate(invalid="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
    if (sides < 1).all():
        raise DataError(
            f"{what} are less than a pixel wide and high; expected {_describe(split.form)} "
            f"(first: {first})"
        )
    if count > total / 2:
        warnings.append(
            f"{what} extend beyond their images or are under a pixel; check that they are "
            f"{_describe(split.form)} (first: {first})"
        )
    return warnings


def _undecided(split: BoxSplit, name: str) -> list[str]:
    """Warn about images that EXIF turns where nothing tells which pixels the boxes lie on."""
    turned = [
        split.samples.name(i)
        for i, each in enumerate(split.annotations)
        if each.turned and each.boxes
    ]
    if not turned:
        return []
    line = (
        f"{len(turned)} images of the {name} split are rotated or mirrored by EXIF, and their "
        "annotations have no size: the boxes are taken to lie on the upright images; if they lie "
        f"on the stored pixels, remove the EXIF orientation: {name_some(turned)}"
    )
    return [line]


def _check_areas(split: BoxSplit, name: str, boxes: Array, sizes: Array) -> None:
    """Refuse boxes whose listed areas are those that they would have in another layout."""
    listed = [a for each in split.annotations if each.size is not None for a in _areas(each)]
    areas = np.array(listed, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        values = _values(boxes, sizes, split.form)
        doubtful = (areas > 0) & ~_has_area(boxes, areas)
        for form in _others(split.form):
            if form.unit != split.form.unit:
                continue
            count = int((doubtful & _has_area(_boxes(values, sizes, form), areas)).sum())
            if count >= max(FEW, SURE * (areas > 0).sum()):
                raise DataError(
                    f"the areas of {count} of {len(boxes)} boxes of the {name} split are those of "
                    f"{_describe(form)}, not of {_describe(split.form)}; convert the boxes, or "
                    "correct the areas"
                )


def _areas(annotation: Annotation) -> Sequence[float | None]:
    return annotation.areas or [None] * len(annotation.boxes)


def _has_area(boxes: Array, areas: Array) -> NDArray[np.bool_]:
    """Check which boxes have the area that is listed, up to rounding."""
    sides = boxes[:, 2:] - boxes[:, :2]
    found: NDArray[np.bool_] = (sides > 0).all(1) & (
        abs(sides.prod(1) - areas) <= AREA_TOLERANCE * areas
    )
    return found


def _collect(split: BoxSplit) -> tuple[Array, Array, NDArray[np.int64]]:
    """Return boxes (n, 4), width and height of their images (n, 2), and positions of images."""
    known = [
        (box, each.size[::-1], i)
        for i, each in enumerate(split.annotations)
        if each.size is not None
        for box in each.boxes
    ]
    boxes, sizes, images = zip(*known, strict=True) if known else ((), (), ())
    return (
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(sizes, np.float64).reshape(-1, 2),
        np.array(images, np.int64),
    )


def _fits(boxes: Array, sizes: Array) -> NDArray[np.bool_]:
    """Check which boxes lie inside of their images and are at least a pixel wide and high."""
    margin = np.maximum(TOLERANCE * sizes, 1)
    low, high = boxes[:, :2], boxes[:, 2:]
    with np.errstate(invalid="ignore"):  # comparisons with NaN are false
        inside = (low >= -margin) & (high <= sizes + margin) & (high - low >= 1)
    fits: NDArray[np.bool_] = inside[:, 0] & inside[:, 1]
    return fits


def _others(form: BoxForm) -> Iterator[BoxForm]:
    """Iterate over the other forms, those first that differ in one property only."""
    forms = [BoxForm(layout, unit) for layout, unit in itertools.product(LAYOUTS, UNITS)]
    forms.remove(form)
    yield from sorted(forms, key=lambda f: (f.layout != form.layout, f.unit != form.unit))


def _values(boxes: Array, sizes: Array, form: BoxForm) -> Array:
    """Return the numbers as they were written, from boxes in pixels."""
    low, high = boxes[:, :2], boxes[:, 2:]
    first = (low + high) / 2 if form.layout == "center" else low
    second = high if form.layout == "corners" else high - low
    scale = sizes if form.unit == "fractions" else np.ones_like(sizes)
    return np.hstack([first / scale, second / scale])


def _boxes(values: Array, sizes: Array, form: BoxForm) -> Array:
    """Return boxes in pixels, from numbers in a form."""
    scale = sizes if form.unit == "fractions" else np.ones_like(sizes)
    first, second = values[:, :2] * scale, values[:, 2:] * scale
    if form.layout == "corners":
        return np.hstack([first, second])
    low = first - second / 2 if form.layout == "center" else first
    return np.hstack([low, low + second])


def _describe(form: BoxForm) -> str:
    return f"{LAYOUTS[form.layout]} {UNITS[form.unit]}"

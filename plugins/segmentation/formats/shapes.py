"""Turn the shapes of LabelMe and CVAT into masks, which are drawn when they are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from visiongraft.data.annotations.shapes import (
    Polygon,
    Rectangle,
    Shape,
    ShapeDataset,
    ShapeImage,
)
from visiongraft.data.decode import MAX_PIXELS
from visiongraft.data.labels import is_background
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.segmentation.formats.dataset import MaskDataset
from visiongraft.plugins.segmentation.formats.masks import Mask
from visiongraft.plugins.segmentation.formats.regions import covers_pixels, rasterize

BACKGROUND = "background"
IGNORED = "ignore"  # the class of what is not to be used; see ``values.VOID_NAMES``


@dataclass(frozen=True)
class DrawnMasks(FileSamples):
    """Images whose masks are drawn from their shapes.

    Attributes:
        paths: One file per sample.
        targets: One ``ShapeImage`` per sample.
        values: The mask value of each class name.
    """

    values: Mapping[str, int] = field(default_factory=dict)

    def target(self, index: int) -> Mask:
        """Draw the mask: see ``draw_mask``."""
        return draw_mask(self.targets[index], self.values)


def to_masks(found: ShapeDataset) -> MaskDataset:
    """Read the areas of shapes as the masks of their images.

    What no shape covers is ``"background"``, class 0, as are shapes that are labeled so. Where
    shapes overlap, later ones lie above earlier ones, unless the dataset orders them. Boxes are
    filled, as by the tools' own converters, and counted; points and lines are skipped and counted.

    Args:
        found: Images with shapes.

    Returns:
        Images with masks; class names in the order of the dataset, or else in alphabetical order.
    """
    selection = _Selection()
    kept = {
        split: [selection.keep(image) for image in images] for split, images in found.splits.items()
    }
    shapes = [shape for images in kept.values() for image in images for shape in image.shapes]
    used = sorted({shape.label for shape in shapes})
    listed = [n for n in (*found.names, *used) if not is_background(n) and n != IGNORED]
    names = tuple(dict.fromkeys([BACKGROUND, *listed, *[IGNORED] * (IGNORED in used)]))
    values = {name: value for value, name in enumerate(names)}
    values |= {name: 0 for name in used if is_background(name)}
    splits: dict[str, Samples] = {
        split: DrawnMasks([image.path for image in images], images, values)
        for split, images in kept.items()
    }
    warnings = (*found.warnings, *selection.lines(), *_undecided(kept))
    return MaskDataset(splits, names, files=True, drawn=True, warnings=warnings)


def draw_mask(image: ShapeImage, values: Mapping[str, int]) -> Mask:
    """Draw the shapes of an image.

    Args:
        image: The image.
        values: The mask value of each class name.

    Returns:
        Values (H, W), uint8, or int32 for more than 256 values; 0 where there is no shape.

    Raises:
        DataError: The image has no size, or a mask is damaged.
    """
    if image.size is None:
        raise DataError(
            f"{image.where}: the size of {image.path.name} is unknown; it cannot be read"
        )
    height, width = image.size
    if height * width > MAX_PIXELS:
        raise DataError(f"{image.where}: {width}x{height} pixels are over {MAX_PIXELS:,}")
    mask: Mask = np.zeros(image.size, np.uint8 if len(values) <= 256 else np.int32)
    for shape in sorted(image.shapes, key=lambda shape: shape.order):
        top, left, inside = rasterize(shape, image.size, image.where)
        rows, columns = inside.shape
        mask[top : top + rows, left : left + columns][inside] = values[shape.label]
    return mask


@dataclass
class _Selection:
    """Keep the shapes that cover pixels, and count the others."""

    skipped: dict[str, Counter[str]] = field(default_factory=dict)
    boxes: int = 0
    drawn: int = 0

    def keep(self, image: ShapeImage) -> ShapeImage:
        shapes = []
        for shape in image.shapes:
            problem = _problem(shape, image)
            if problem:
                self.skipped.setdefault(problem, Counter())[shape.kind] += 1
            else:
                self.drawn += 1
                self.boxes += isinstance(shape.region, Rectangle)
                shapes.append(replace(shape, label=IGNORED) if shape.ignored else shape)
        return replace(image, shapes=tuple(shapes))

    def lines(self) -> list[str]:
        """Return one line about boxes, and one for each reason for which shapes were skipped."""
        filled = f"{self.boxes} of {self.drawn} shapes are boxes, whose whole area gets their class"
        return [filled] * (self.boxes > 0) + [
            f"shapes {problem} were skipped: "
            + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            for problem, kinds in self.skipped.items()
        ]


def _problem(shape: Shape, image: ShapeImage) -> str:
    """Return why a shape is not drawn; empty if it is."""
    if shape.region is None:
        return "that cover no area"
    if isinstance(shape.region, Polygon) and len(shape.region.points) < 3:
        return "of fewer than three points"
    return "" if covers_pixels(shape.box(), image.size) else "that cover no pixel of their image"


def _undecided(splits: Mapping[str, list[ShapeImage]]) -> list[str]:
    """Warn about images that EXIF turns where nothing tells which pixels the shapes lie on."""
    turned = [
        str(image.path)
        for images in splits.values()
        for image in images
        if image.turned and image.shapes
    ]
    line = (
        f"{len(turned)} images are rotated or mirrored by EXIF, and their annotations have no size: "
        "the shapes are taken to lie on the upright images; if they lie on the stored pixels, remove "
        f"the EXIF orientation: {name_some(turned)}"
    )
    return [line] if turned else []

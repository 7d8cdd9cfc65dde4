"""Turn the shapes of LabelMe and CVAT into boxes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from visiongraft.data.annotations.labelme import IGNORED
from visiongraft.data.annotations.shapes import (
    Corners,
    ShapeDataset,
    ShapeImage,
    around,
)
from visiongraft.data.samples import FileSamples
from visiongraft.errors import name_some
from visiongraft.plugins.detection.formats.dataset import BoxDataset, BoxSplit, in_order
from visiongraft.plugins.detection.objects import Annotation


def to_boxes(found: ShapeDataset) -> BoxDataset:
    """Replace shapes by the upright boxes around them.

    Shapes of one label and group are one object, as in LabelMe's own converters. Points, lines and
    the like, and what LabelMe ignores, are skipped and counted.

    Args:
        found: Images with shapes.

    Returns:
        Images with boxes; class names in the order of the dataset, or else in alphabetical order.
    """
    converter = _Converter()
    splits = {}
    for split, images in found.splits.items():
        paths = [image.path for image in images]
        annotations = [converter.convert(image) for image in images]
        splits[split] = BoxSplit(FileSamples(paths, [()] * len(paths)), annotations)
    used = {n for split in splits.values() for each in split.annotations for n in each.names}
    names = in_order(found.names, sorted(used))
    return BoxDataset(splits, names, (*found.warnings, *converter.lines()))


@dataclass
class _Converter:
    """Convert the shapes of images, and count what is skipped or changed."""

    skipped: Counter[str] = field(default_factory=Counter)
    turned: list[str] = field(default_factory=list)

    def convert(self, image: ShapeImage) -> Annotation:
        boxes: dict[Any, tuple[str, Corners]] = {}
        for number, shape in enumerate(image.shapes):
            if shape.region is None or shape.ignored:
                self.skipped[IGNORED if shape.ignored else shape.kind] += 1
                continue
            box = shape.box()
            if shape.rotates:
                self.turned.append(image.where)
            key = number if shape.group is None else (shape.label, shape.group)
            if key in boxes:
                x1, y1, x2, y2 = boxes[key][1]
                box = around([(x1, y1), (x2, y2), box[:2], box[2:]])
            boxes[key] = (shape.label, box)
        names, corners = zip(*boxes.values(), strict=True) if boxes else ((), ())
        return Annotation(corners, names, image.size, turned=image.turned)

    def lines(self) -> list[str]:
        """Return one line for each kind of thing that was skipped or changed."""
        lines = []
        if self.turned:
            lines.append(
                f"{len(self.turned)} rotated boxes were replaced by the upright boxes around them: "
                f"{name_some(self.turned)}"
            )
        if self.skipped:
            shapes = ", ".join(f"{count} {kind}" for kind, count in self.skipped.items())
            lines.append(f"shapes that are not boxes were skipped: {shapes}")
        return lines

"""Read images with boxes from any data that detection accepts: paths, datasets, pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from visiongraft.data.images import (
    DatasetSamples,
    check_dataset,
    class_names_of,
    image_array,
    load_item,
)
from visiongraft.data.labels import class_name
from visiongraft.data.samples import Image, Samples
from visiongraft.data.splits import as_pair, join_pair
from visiongraft.errors import DataError
from visiongraft.lookup.reading import read_or_raise
from visiongraft.plugins.detection.formats.dataset import BoxDataset, BoxSplit, in_order
from visiongraft.plugins.detection.formats.paths import read_path
from visiongraft.plugins.detection.objects import Annotation, Box

FORM = "{'boxes': (n, 4) corners in pixels, 'labels': n names or ids}"
TARGET = f"expected a target of {FORM}"
ITEM = f"(image, {FORM})"

Item = tuple[Any, tuple[int, int]]  # a target, and height and width of its image


def read_boxes(data: Any) -> BoxDataset:
    """Read images, boxes and class names.

    Args:
        data: A path in COCO's, Pascal VOC's or YOLO's format, a map-style dataset of (image,
            ``{"boxes", "labels"}``), anything that an installed reader of boxes accepts, or a pair
            (training, validation) of these.

    Returns:
        The dataset.

    Raises:
        DataError: There is no data, or it is in no known format.
    """
    pair = as_pair(data)
    if pair is not None:
        return _join(*map(read_boxes, pair))
    try:
        if isinstance(data, (str, Path)):
            return read_path(Path(data))
        return _read_dataset(data)
    except DataError as error:
        found = read_or_raise(data, "boxes", error)
        splits = {split: (samples, _items(samples)) for split, samples in found.splits.items()}
        return _convert(splits, found.names or None, found.warnings)


def _join(first: BoxDataset, second: BoxDataset) -> BoxDataset:
    return BoxDataset(
        join_pair(first.splits, second.splits),
        in_order(first.names, second.names),
        (*first.warnings, *second.warnings),
    )


# ---- datasets ----


def _read_dataset(dataset: Any) -> BoxDataset:
    """Load every item once: the size of an image is known only from the image itself."""
    check_dataset(dataset)
    items = []
    for i in range(len(dataset)):
        image, target = load_item(dataset, i, ITEM)
        items.append((target, _size(image_array(image, f"item {i}"))))
    samples = DatasetSamples(dataset, [()] * len(dataset))
    return _convert({"train": (samples, items)}, class_names_of(dataset))


def _items(samples: Samples) -> list[Item]:
    return [(samples.target(i), _size(samples.load(i))) for i in range(len(samples))]


def _size(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _convert(
    splits: Mapping[str, tuple[Samples, Sequence[Item]]],
    names: Sequence[str] | None,
    warnings: tuple[str, ...] = (),
) -> BoxDataset:
    if names is not None:
        names = [class_name(name) for name in names]
    found = {}
    for split, (samples, items) in splits.items():
        annotations = [
            _annotation(target, size, names, samples.name(i))
            for i, (target, size) in enumerate(items)
        ]
        found[split] = BoxSplit(samples, annotations)
    seen = {name for own in found.values() for each in own.annotations for name in each.names}
    return BoxDataset(found, in_order(names or (), _sorted(seen)), warnings)


def _annotation(
    target: Any, size: tuple[int, int], names: Sequence[str] | None, where: str
) -> Annotation:
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= target.keys():
        raise DataError(f"{where}: the target is {type(target).__name__}; {TARGET}")
    boxes, labels = _listed(target["boxes"]), _listed(target["labels"])
    crowd = _listed(target.get("iscrowd", target.get("crowd", [0] * len(labels))))
    areas = _listed(target.get("area", [None] * len(labels)))
    if not len(boxes) == len(labels) == len(crowd) == len(areas):
        raise DataError(f"{where}: {len(boxes)} boxes and {len(labels)} labels; {TARGET}")
    return Annotation(
        [_box(box, where) for box in boxes],
        [_name(label, names, where) for label in labels],
        size,
        [bool(mark) for mark in crowd],
        [float(area) if isinstance(area, Real) else None for area in areas],
    )


def _box(box: Any, where: str) -> Box:
    if (
        not isinstance(box, (list, tuple))
        or len(box) != 4
        or not all(isinstance(v, Real) for v in box)
    ):
        raise DataError(f"{where}: {box!r} is not a box; {TARGET}")
    x1, y1, x2, y2 = (float(v) for v in box)
    return x1, y1, x2, y2


def _listed(values: Any) -> list[Any]:
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _name(label: Any, names: Sequence[str] | None, where: str) -> str:
    """Return the class name of a label; without class names, an id is its own name."""
    if isinstance(label, str) and label:
        return class_name(label)
    if isinstance(label, bool) or not isinstance(label, Integral):
        raise DataError(f"{where}: {label!r} is neither a class name nor a class id")
    if names is None:
        return str(int(label))
    if not 0 <= int(label) < len(names):
        raise DataError(f"{where}: class id {label} has no name among {len(names)} class names")
    return names[int(label)]


def _sorted(names: set[str]) -> list[str]:
    """Sort class names, by value if all are numbers."""
    return sorted(names, key=int) if all(n.isdecimal() for n in names) else sorted(names)

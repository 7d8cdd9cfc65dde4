"""Images with boxes, out of every form of data that detection reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from visiongraft.data.images import DatasetSamples, image_array
from visiongraft.data.readers import read_data
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError, one_line
from visiongraft.plugins.detection.formats.dataset import (
    PASSED_OVER,
    BoxDataset,
    BoxSplit,
    in_order,
    is_background,
)
from visiongraft.plugins.detection.formats.layouts import read_path
from visiongraft.plugins.detection.objects import Annotation, AnnotationTally, Box

TARGET = "a target is {'boxes': (n, 4) corners in pixels, 'labels': n names or ids}"


def find_source(data: Any) -> BoxDataset:
    """Find images, boxes and label names.

    Args:
        data: A path in COCO's, Pascal VOC's or YOLO's form, a map-style dataset of (image,
            ``{"boxes", "labels"}``), what an installed reader of boxes reads, or a pair (training,
            validation) of these.

    Returns:
        What was found.

    Raises:
        DataError: There is nothing, or it is in no known form.
    """
    if isinstance(data, tuple):
        if len(data) != 2:
            raise DataError(f"data is one set or a pair (training, validation), not {len(data)}")
        return _read_pair(data[0], data[1])
    try:
        if isinstance(data, (str, Path)):
            return read_path(Path(data))
        return _read_dataset(data)
    except DataError:
        found = read_data(data, "boxes")  # asked last: installing a reader changes no dataset
        if found is None:
            raise
        by_id = dict(enumerate(found.names)) or None
        source = _from_samples({p: s for p, s in found.splits.items() if len(s)}, by_id)
        return replace(source, warnings=found.warnings)


def _read_pair(training: Any, validation: Any) -> BoxDataset:
    """Take the training part of one set and the part of the other that was held out."""
    first, second = find_source(training), find_source(validation)
    if "train" not in first.splits:
        raise DataError("the training set of the pair has no training images")
    validation_set = next(
        second.splits[p] for p in ("validation", "test", "train") if p in second.splits
    )
    tally = first.tally
    for what, places in second.tally.places.items():
        tally.counts[what] += second.tally.counts[what]
        tally.places[what] += places
    return BoxDataset(
        {"train": first.splits["train"], "validation": validation_set},
        in_order(first.names, second.names),
        (*first.warnings, *second.warnings),
        tally,
    )


# ---- datasets ----


def _read_dataset(dataset: Any) -> BoxDataset:
    """Get every item once: the size of an image is known only from the image itself."""
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        kind = type(dataset).__name__
        raise DataError(f"data is a path or a dataset with __len__ and __getitem__, not {kind}")
    if len(dataset) == 0:
        raise DataError(f"the dataset ({type(dataset).__name__}) is empty")
    names = _class_names(dataset)
    samples = DatasetSamples(dataset, [()] * len(dataset))
    targets, sizes = [], []
    for i in range(len(dataset)):
        image, target = _item(dataset, i)
        targets.append(target)
        height, width = image_array(image, f"item {i}").shape[:2]
        sizes.append((height, width))
    return _convert({"train": samples}, {"train": targets}, {"train": sizes}, names)


def _from_samples(parts: Mapping[str, Samples], names: Mapping[int, str] | None) -> BoxDataset:
    targets = {p: [s.target(i) for i in range(len(s))] for p, s in parts.items()}
    sizes: dict[str, list[tuple[int, int]]] = {}
    for part, samples in parts.items():
        shapes = [samples.load(i).shape for i in range(len(samples))]
        sizes[part] = [(height, width) for height, width, _ in shapes]
    return _convert(parts, targets, sizes, names)


def _convert(
    parts: Mapping[str, Samples],
    targets: Mapping[str, Sequence[Any]],
    sizes: Mapping[str, Sequence[tuple[int, int]]],
    names: Mapping[int, str] | None,
) -> BoxDataset:
    tally = AnnotationTally()
    found = {}
    seen: set[str] = set()
    for part, samples in parts.items():
        annotations = [
            _annotation(target, size, names, samples.name(i), tally)
            for i, (target, size) in enumerate(zip(targets[part], sizes[part], strict=True))
        ]
        found[part] = BoxSplit(samples, annotations)
        seen.update(name for each in annotations for name in each.names)
    known = tuple(names.values()) if names is not None else ()
    return BoxDataset(found, in_order(known, _sorted(seen)), (), tally)


def _item(dataset: Any, index: int) -> tuple[Any, Any]:
    try:
        item = dataset[index]
    except Exception as error:  # a stranger's dataset may raise anything
        cause = one_line(error)
        raise DataError(
            f"item {index}: the dataset raised {type(error).__name__}: {cause}"
        ) from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(
            f"item {index}: a dataset gives (image, target), not {type(item).__name__}; {TARGET}"
        )
    return item[0], item[1]


def _class_names(dataset: Any) -> dict[int, str] | None:
    """Read the class names that datasets offer, also through torch's Subset."""
    while hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    if not isinstance(names, (list, tuple)) or len(set(names)) != len(names):
        return None
    return dict(enumerate(names)) if names and all(isinstance(n, str) for n in names) else None


def _annotation(
    target: Any,
    size: tuple[int, int],
    names: Mapping[int, str] | None,
    where: str,
    tally: AnnotationTally,
) -> Annotation:
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= target.keys():
        raise DataError(f"{where}: the target is {type(target).__name__}; {TARGET}")
    boxes, labels = _listed(target["boxes"]), _listed(target["labels"])
    crowd = _listed(target.get("iscrowd", target.get("crowd", [0] * len(labels))))
    areas = _listed(target.get("area", [None] * len(labels)))
    if not len(boxes) == len(labels) == len(crowd) == len(areas):
        raise DataError(f"{where}: {len(boxes)} boxes and {len(labels)} labels; {TARGET}")
    kept: list[tuple[Box, str, bool, float | None]] = []
    for box, label, mark, area in zip(boxes, labels, crowd, areas, strict=True):
        if not isinstance(box, (list, tuple)) or len(box) != 4 or not _are_numbers(box):
            raise DataError(f"{where}: {box!r} is no box; {TARGET}")
        name = _name(label, names, where)
        if is_background(name):
            tally.add(PASSED_OVER, where)
            continue
        x1, y1, x2, y2 = (float(v) for v in box)
        value = float(area) if isinstance(area, Real) else None
        kept.append(((x1, y1, x2, y2), name, bool(mark), value))
    return Annotation(
        [k[0] for k in kept], [k[1] for k in kept], size, [k[2] for k in kept], [k[3] for k in kept]
    )


def _listed(values: Any) -> list[Any]:
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(v, Real) for v in values)


def _name(label: Any, names: Mapping[int, str] | None, where: str) -> str:
    """Give a label's name; without class names, ids are their own."""
    if isinstance(label, str) and label:
        return label
    if isinstance(label, bool) or not isinstance(label, Integral):
        raise DataError(f"{where}: {label!r} is neither a label name nor a class id")
    if names is None:
        return str(int(label))
    if int(label) not in names:
        raise DataError(f"{where}: class id {label} has no name among {len(names)} class names")
    return names[int(label)]


def _sorted(names: set[str]) -> list[str]:
    """Sort label names, those that are all numbers by their value."""
    return sorted(names, key=int) if all(n.isdecimal() for n in names) else sorted(names)

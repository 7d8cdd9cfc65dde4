"""Read images with boxes from any data that detection accepts: paths, datasets, pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from visiongraft.data.images import DatasetSamples, image_array
from visiongraft.data.samples import Samples
from visiongraft.data.splits import validation_split
from visiongraft.errors import DataError, one_line
from visiongraft.lookup import read_data
from visiongraft.plugins.detection.formats.dataset import (
    SKIPPED,
    BoxDataset,
    BoxSplit,
    in_order,
    is_background,
)
from visiongraft.plugins.detection.formats.paths import read_path
from visiongraft.plugins.detection.objects import Annotation, AnnotationTally, Box

TARGET = "expected a target of {'boxes': (n, 4) corners in pixels, 'labels': n names or ids}"


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
    if isinstance(data, tuple):
        if len(data) != 2:
            raise DataError(
                f"data is one dataset or a pair (training, validation), not {len(data)}"
            )
        return _read_pair(data[0], data[1])
    try:
        if isinstance(data, (str, Path)):
            return read_path(Path(data))
        return _read_dataset(data)
    except DataError:
        found = read_data(data, "boxes")  # last: installing a reader must not change a dataset
        if found is None:
            raise
        by_id = dict(enumerate(found.names)) or None
        dataset = _from_samples({p: s for p, s in found.splits.items() if len(s)}, by_id)
        return replace(dataset, warnings=found.warnings)


def _read_pair(training: Any, validation: Any) -> BoxDataset:
    """Combine the training split of one dataset with the validation split of the other."""
    first, second = read_boxes(training), read_boxes(validation)
    if "train" not in first.splits:
        raise DataError("the first dataset of the pair has no training images")
    validation_set = second.splits[validation_split(second.splits)]
    tally = first.tally
    for what, locations in second.tally.locations.items():
        tally.counts[what] += second.tally.counts[what]
        tally.locations[what] += locations
    return BoxDataset(
        {"train": first.splits["train"], "validation": validation_set},
        in_order(first.names, second.names),
        (*first.warnings, *second.warnings),
        tally,
    )


# ---- datasets ----


def _read_dataset(dataset: Any) -> BoxDataset:
    """Load every item once: the size of an image is known only from the image itself."""
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


def _from_samples(splits: Mapping[str, Samples], names: Mapping[int, str] | None) -> BoxDataset:
    targets = {p: [s.target(i) for i in range(len(s))] for p, s in splits.items()}
    sizes: dict[str, list[tuple[int, int]]] = {}
    for split, samples in splits.items():
        shapes = [samples.load(i).shape for i in range(len(samples))]
        sizes[split] = [(height, width) for height, width, _ in shapes]
    return _convert(splits, targets, sizes, names)


def _convert(
    splits: Mapping[str, Samples],
    targets: Mapping[str, Sequence[Any]],
    sizes: Mapping[str, Sequence[tuple[int, int]]],
    names: Mapping[int, str] | None,
) -> BoxDataset:
    tally = AnnotationTally()
    result = {}
    seen: set[str] = set()
    for split, samples in splits.items():
        annotations = [
            _annotation(target, size, names, samples.name(i), tally)
            for i, (target, size) in enumerate(zip(targets[split], sizes[split], strict=True))
        ]
        result[split] = BoxSplit(samples, annotations)
        seen.update(name for each in annotations for name in each.names)
    known = tuple(names.values()) if names is not None else ()
    return BoxDataset(result, in_order(known, _sorted(seen)), (), tally)


def _item(dataset: Any, index: int) -> tuple[Any, Any]:
    try:
        item = dataset[index]
    except Exception as error:  # a user's dataset may raise any exception
        cause = one_line(error)
        raise DataError(
            f"item {index}: the dataset raised {type(error).__name__}: {cause}"
        ) from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(
            f"item {index}: expected (image, target), not {type(item).__name__}; {TARGET}"
        )
    return item[0], item[1]


def _class_names(dataset: Any) -> dict[int, str] | None:
    """Return the class names of a dataset, also through torch's Subset."""
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
            raise DataError(f"{where}: {box!r} is not a box; {TARGET}")
        name = _name(label, names, where)
        if is_background(name):
            tally.add(SKIPPED, where)
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
    """Return the class name of a label; without class names, an id is its own name."""
    if isinstance(label, str) and label:
        return label
    if isinstance(label, bool) or not isinstance(label, Integral):
        raise DataError(f"{where}: {label!r} is neither a class name nor a class id")
    if names is None:
        return str(int(label))
    if int(label) not in names:
        raise DataError(f"{where}: class id {label} has no name among {len(names)} class names")
    return names[int(label)]


def _sorted(names: set[str]) -> list[str]:
    """Sort class names, by value if all are numbers."""
    return sorted(names, key=int) if all(n.isdecimal() for n in names) else sorted(names)

"""COCO's JSON files of boxes: https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiongraft.data.annotations.image_files import annotation_size, find_images
from visiongraft.data.annotations.shapes import rotated
from visiongraft.data.decode import printable
from visiongraft.data.labels import class_name
from visiongraft.data.parsing import parse_number, show_value
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some, shorten
from visiongraft.options import is_integer, is_number
from visiongraft.plugins.detection.formats.coco_files import load_coco
from visiongraft.plugins.detection.formats.dataset import (
    BoxDataset,
    BoxForm,
    BoxSplit,
    in_order,
)
from visiongraft.plugins.detection.objects import Annotation, Box

Key = int | str  # an id; the format only needs ids to be equal
Row = dict[str, Any]
Group = tuple[Row, list[Row]]  # an image, and its annotations

FORM = BoxForm("size")
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def read_coco(files: Mapping[str, Path]) -> BoxDataset:
    """Read annotation files.

    Ids are integers or text; ``1``, ``1.0`` and ``"1"`` are the same. Boxes that CVAT rotates are
    replaced by the boxes around them.

    Args:
        files: The files by split.

    Returns:
        Images with boxes; class names in the order of the first file's category ids.

    Raises:
        DataError: A file is damaged or contradicts itself.
    """
    warnings: list[str] = []
    splits: dict[str, BoxSplit] = {}
    names: list[tuple[str, ...]] = []
    groups: list[set[str]] = []
    for split, file in files.items():
        content = load_coco(file)
        categories = _categories(content, file, warnings)
        names.append(tuple(categories.values()))
        groups.append(_group(content, categories))
        found = _read_split(content, categories, (split, file), warnings)
        if len(found.annotations):
            splits[split] = found
    if not splits:
        raise DataError(f"{name_some(map(printable, files.values()))}: no image is listed")
    used = {n for split in splits.values() for each in split.annotations for n in each.names}
    for group in set.union(*groups) - used:
        if all(
            group in own or group not in listed for own, listed in zip(groups, names, strict=True)
        ):
            names = [tuple(n for n in listed if n != group) for listed in names]
            warnings.append(
                f"category 0, {group!r}, has no box and is the supercategory of the others, so it "
                "is not a class; the option class_names can include it"
            )
    return BoxDataset(splits, in_order(*names), tuple(warnings))


def _group(content: Row, categories: Mapping[Key, str]) -> set[str]:
    """Find a category 0 that is the supercategory of all others, as Roboflow writes it."""
    above = {
        class_name(str(row.get("supercategory"))) for row in content["categories"] if row["id"] != 0
    }
    name, others = categories.get(0), [n for key, n in categories.items() if key != 0]
    return {name} if name is not None and above == {name} and name not in others else set()


def _categories(content: Row, file: Path, warnings: list[str]) -> dict[Key, str]:
    """Return class names by category id, in the order of the ids."""
    found: dict[Key, str] = {}
    for row in content["categories"]:
        key, name = _key(row, "id", file, "a category"), row.get("name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{printable(file)}: category {shorten(str(key))} has no name")
        name = class_name(name)
        if found.setdefault(key, name) != name:
            raise DataError(
                f"{printable(file)}: category id {shorten(str(key))} is both {shorten(repr(found[key]))} "
                f"and {shorten(repr(name))}; each category needs its own id"
            )
    for name, count in Counter(found.values()).items():
        if count > 1:
            same = name_some(str(key) for key in found if found[key] == name)
            warnings.append(
                f"{printable(file)}: the categories {same} are all named {shorten(repr(name))} and are one "
                "class"
            )
    return {key: found[key] for key in sorted(found, key=lambda k: (isinstance(k, str), k))}


def _read_split(
    content: Row, categories: Mapping[Key, str], origin: tuple[str, Path], warnings: list[str]
) -> BoxSplit:
    split, file = origin
    images, first = _images(content, file, warnings)
    rows = defaultdict(list)
    unlisted: Counter[Key] = Counter()
    for row in content["annotations"]:
        key = _key(row, "image_id", file, "an annotation")
        if key not in first:
            unlisted[key] += 1
        else:
            rows[first[key]].append(row)
    if unlisted:
        warnings.append(
            f"{printable(file)}: {unlisted.total()} boxes of images that are not listed were "
            f"skipped: image ids {name_some(map(str, unlisted))}"
        )
    names = [row["file_name"] for row in images.values()]
    paths = find_images(names, file.parent, split, warnings)
    reader = _Reader(file, categories)
    annotations = [
        reader.read((image, rows[key]), path)
        for (key, image), path in zip(images.items(), paths, strict=True)
    ]
    if reader.rotated:
        warnings.append(
            f"{printable(file)}: {len(reader.rotated)} rotated boxes were replaced by the upright "
            f"boxes around them: {name_some(reader.rotated)}"
        )
    return BoxSplit(FileSamples(paths, [()] * len(paths)), annotations, FORM)


def _images(content: Row, file: Path, warnings: list[str]) -> tuple[dict[Key, Row], dict[Key, Key]]:
    """Return images by id, each file once; and by each id the one of its file that comes first."""
    images: dict[Key, Row] = {}
    first: dict[Key, Key] = {}
    by_name: dict[str, Key] = {}
    repeated = []
    for row in content["images"]:
        key, name = _key(row, "id", file, "an image"), row.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{printable(file)}: image {shorten(str(key))} has no file_name")
        shown = printable(name)
        if key in first and images[first[key]]["file_name"] != name:
            raise DataError(
                f"{printable(file)}: image id {shorten(str(key))} is both "
                f"{printable(images[first[key]]['file_name'])!r} and {shown!r}; each image needs "
                "its own id"
            )
        if name not in by_name:
            by_name[name], images[key] = key, row
        else:
            repeated.append(shown)
            kept = images[by_name[name]]
            sides = [(kept.get(side), row.get(side)) for side in ("height", "width")]
            if any(None not in pair and pair[0] != pair[1] for pair in sides):
                raise DataError(
                    f"{printable(file)}: {shown} is listed twice with different sizes; remove one"
                )
        first[key] = by_name[name]
    if repeated:
        warnings.append(
            f"{printable(file)}: {len(repeated)} images that are listed twice were used once: "
            f"{name_some(repeated)}"
        )
    return images, first


@dataclass
class _Reader:
    """Read the annotations of one file.

    Attributes:
        file: The file, for messages.
        categories: Class names by category id.
        rotated: Images of boxes that were rotated.
    """

    file: Path
    categories: Mapping[Key, str]
    rotated: list[str] = field(default_factory=list)

    def read(self, group: Group, path: Path) -> Annotation:
        image, rows = group
        shown = printable(image["file_name"])
        boxes, names, crowd, areas = [], [], [], []
        for row in rows:
            category = _key(row, "category_id", self.file, "an annotation")
            if category not in self.categories:
                raise DataError(
                    f"{printable(self.file)}: a box in {shown} has category id "
                    f"{shorten(str(category))}, which is not listed"
                )
            boxes.append(self._box(row, shown))
            names.append(self.categories[category])
            crowd.append(self._crowd(row, shown))
            area = row.get("area")
            areas.append(float(area) if is_number(area) else None)
        size, turned = annotation_size(path, image.get("height"), image.get("width"))
        return Annotation(boxes, names, size, crowd, areas, turned)

    def _box(self, row: Row, shown: str) -> Box:
        values = row.get("bbox")
        if (
            not isinstance(values, list)
            or len(values) != 4
            or not all(is_number(v, finite=False) for v in values)
        ):
            raise DataError(
                f"{printable(self.file)}: a box in {shown} has bbox={show_value(values)}; expected "
                "x, y, width and height in pixels"
            )
        x, y, width, height = (float(value) for value in values)
        box = (x, y, x + width, y + height)
        attributes = row.get("attributes")
        degrees = attributes.get("rotation", 0) if isinstance(attributes, dict) else 0
        if not is_number(degrees) or degrees % 360 == 0:
            return box
        self.rotated.append(shown)
        return rotated(box, degrees)

    def _crowd(self, row: Row, shown: str) -> bool:
        value = row.get("iscrowd")
        flag = False if value is None else FLAGS.get(str(value).strip().lower())
        if flag is None:
            raise DataError(
                f"{printable(self.file)}: a box in {shown} has iscrowd={show_value(value)}; "
                "expected 0 or 1"
            )
        return flag


def _key(row: Row, name: str, file: Path, what: str) -> Key:
    """Return an id: an integer, even if written as ``1.0`` or ``"1"``, or any other text."""
    value = row.get(name)
    if isinstance(value, str) and value:
        number = parse_number(value)
        return number if number is not None and str(number) == value else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not is_integer(value):
        raise DataError(
            f"{printable(file)}: {what} has {name}={show_value(value)}; expected an integer or text"
        )
    return value

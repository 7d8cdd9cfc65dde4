"""LabelMe's JSON files: one file of shapes for each image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable
from visiongraft.data.listing import FileIndex, list_images
from visiongraft.data.parsing import read_json, show_value
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.options import is_number
from visiongraft.plugins.detection.formats.dataset import BoxDataset, BoxSplit, around, in_order
from visiongraft.plugins.detection.formats.image_files import annotation_size, split_of_name
from visiongraft.plugins.detection.formats.voc_folders import (
    VocFolders,
    find_image,
    find_voc_folders,
)
from visiongraft.plugins.detection.objects import Annotation, Box

SUFFIX = ".json"
OUTLINES = ("polygon", "rectangle", "rotation", "oriented_rectangle", "mask")
IGNORED = "__ignore__"  # LabelMe's own label of what is not to be used
MAX_SNIFFED = 2**25  # bytes; larger files are not those of one image, even if they contain it


def find_labelme_folders(folder: Path, warnings: list[str]) -> list[VocFolders]:
    """Find LabelMe's files with images: beside them, in folders of their own, or in each split's.

    Args:
        folder: The folder to search.
        warnings: One line for each folder that was skipped is appended.

    Returns:
        One for all files, or one for each split; empty if there are no such files.

    Raises:
        DataError: Two folders belong to the same split.
    """
    found = find_voc_folders(folder, warnings, SUFFIX)
    return found if found and all(any(map(_is_labelme, each.files[:3])) for each in found) else []


def read_labelme(folders: Sequence[VocFolders], warnings: Sequence[str] = ()) -> BoxDataset:
    """Read LabelMe's files.

    A rectangle, polygon, circle or mask becomes the box around it. Shapes of one label that share a
    ``group_id`` are one object, as in LabelMe's own converters. Points and lines are skipped and
    counted.

    Args:
        folders: At least one. Files that neither it nor a folder such as ``train`` below it assigns
            to a split are ``"train"``.
        warnings: What was skipped so far.

    Returns:
        Images with boxes; class names in alphabetical order.

    Raises:
        DataError: A file is damaged.
    """
    reader = _Reader()
    for each in folders:
        reader.read(each)
    if not reader.splits:
        raise DataError(f"{printable(folders[0].annotations)}: no file is one of LabelMe's")
    splits = {}
    for split, rows in reader.splits.items():
        paths, annotations = zip(*rows, strict=True)
        splits[split] = BoxSplit(FileSamples(paths, [()] * len(paths)), annotations)
    names = {n for split in splits.values() for each in split.annotations for n in each.names}
    return BoxDataset(splits, in_order(sorted(names)), (*warnings, *reader.lines()))


@dataclass
class _Reader:
    """Read files, and count what is skipped."""

    splits: dict[str, list[tuple[Path, Annotation]]] = field(default_factory=dict)
    shapes: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)

    def read(self, folders: VocFolders) -> None:
        listed = list_images(folders.images) if folders.images.is_dir() else []
        images = FileIndex(folders.images, listed)
        unlisted = set(images.files)
        for file in folders.files:
            content = read_json(file)
            if not _has_shapes(content):
                self.others.append(printable(file))
                continue
            key = file.relative_to(folders.annotations).with_suffix("").as_posix()
            found = find_image(images, key)
            unlisted.discard(found or "")
            path = images.files[found] if found else file.parent / _image_name(content, file)
            tops = [k.split("/")[0] for k in (key, found or "") if "/" in k]
            by_folder = next(filter(None, map(split_of_name, tops)), "train")
            row = (path, self._annotation(content, path, file))
            self.splits.setdefault(folders.split or by_folder, []).append(row)
        self.unlisted += sorted(unlisted)

    def lines(self) -> list[str]:
        """Return one line for each kind of thing that was skipped."""
        shapes = ", ".join(f"{count} {kind}" for kind, count in self.shapes.items())
        lines = [f"shapes that are not boxes were skipped: {shapes}"] if shapes else []
        for what, names in (
            ("JSON files that are not LabelMe's", self.others),
            ("images without a LabelMe file", self.unlisted),
        ):
            if names:
                lines.append(f"{len(names)} {what} are skipped: {name_some(names)}")
        return lines

    def _annotation(self, content: dict[str, Any], path: Path, file: Path) -> Annotation:
        found: dict[Any, tuple[str, Box]] = {}
        for number, shape in enumerate(content["shapes"]):
            where = f"{printable(file)}: shape {number}"
            name, kind = shape.get("label"), shape.get("shape_type") or "polygon"
            if not isinstance(name, str) or not name.strip():
                raise DataError(f"{where} has no label")
            if kind not in (*OUTLINES, "circle"):
                self.shapes[show_value(kind)] += 1
                continue
            if name.strip() == IGNORED:
                self.shapes[IGNORED] += 1
                continue
            box, group = _box(shape, kind, where), shape.get("group_id")
            key = number if group is None else (name, str(group))
            if key in found:
                x1, y1, x2, y2 = found[key][1]
                box = around([(x1, y1), (x2, y2), box[:2], box[2:]])
            found[key] = (name.strip(), box)
        size, turned = annotation_size(path, content.get("imageHeight"), content.get("imageWidth"))
        names, boxes = zip(*found.values(), strict=True) if found else ((), ())
        return Annotation(boxes, names, size, turned=turned)


def _box(shape: dict[str, Any], kind: str, where: str) -> Box:
    points = shape.get("points")
    if (
        not isinstance(points, list)
        or not points
        or not all(isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in points)
    ):
        raise DataError(f"{where} has points={show_value(points)}; expected pairs of x and y")
    if kind != "circle":
        return around([(float(x), float(y)) for x, y in points])
    if len(points) != 2:
        raise DataError(f"{where} is a circle of {len(points)} points; expected 2")
    (x, y), edge = points
    radius = math.dist((x, y), edge)
    return x - radius, y - radius, x + radius, y + radius


def _image_name(content: dict[str, Any], file: Path) -> str:
    """Return the path of an image that is not found by the name of its file."""
    name = content.get("imagePath")
    return name.replace("\\", "/") if isinstance(name, str) and name else f"{file.stem}.jpg"


def _is_labelme(file: Path) -> bool:
    try:
        return file.stat().st_size <= MAX_SNIFFED and _has_shapes(read_json(file))
    except (OSError, DataError):
        return False


def _has_shapes(content: Any) -> bool:
    shapes = content.get("shapes") if isinstance(content, dict) else None
    return isinstance(shapes, list) and all(isinstance(shape, dict) for shape in shapes)

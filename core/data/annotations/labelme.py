"""LabelMe's JSON files: one file of shapes for each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiongraft.data.annotations.folders import (
    AnnotationFolders,
    find_annotation_folders,
    find_image,
)
from visiongraft.data.annotations.image_files import annotation_size, split_of_name
from visiongraft.data.annotations.shapes import (
    Bitmap,
    Ellipse,
    Polygon,
    Rectangle,
    Region,
    Shape,
    ShapeDataset,
    ShapeImage,
    around,
)
from visiongraft.data.decode import printable
from visiongraft.data.labels import class_name
from visiongraft.data.listing import FileIndex, list_images
from visiongraft.data.names import find_listed
from visiongraft.data.parsing import read_json, show_value
from visiongraft.errors import DataError, name_some
from visiongraft.options import is_number

SUFFIX = ".json"
OUTLINES = ("polygon", "rotation", "oriented_rectangle")  # rotated boxes have four corners
REGIONS = (*OUTLINES, "rectangle", "circle", "mask")
IGNORED = "__ignore__"  # LabelMe's own label of what is not to be used
MAX_SNIFFED = 2**25  # bytes; larger files are not those of one image, even if they contain it


def find_labelme_folders(folder: Path, warnings: list[str]) -> list[AnnotationFolders]:
    """Find LabelMe's files with images: beside them, in folders of their own, or in each split's.

    Args:
        folder: The folder to search.
        warnings: One line for each folder that was skipped is appended.

    Returns:
        One for all files, or one for each split; empty if there are no such files.

    Raises:
        DataError: Two folders belong to the same split.
    """
    found = find_annotation_folders(folder, warnings, SUFFIX)
    return found if found and all(any(map(_is_labelme, each.files[:3])) for each in found) else []


def read_labelme(
    folders: Sequence[AnnotationFolders], warnings: Sequence[str] = ()
) -> ShapeDataset:
    """Read LabelMe's files.

    Args:
        folders: At least one. Files that neither it nor a folder such as ``train`` below it assigns
            to a split are ``"train"``.
        warnings: What was skipped so far.

    Returns:
        The images that have a file, with all of their shapes.

    Raises:
        DataError: A file is damaged.
    """
    reader = _Reader()
    for each in folders:
        reader.read(each)
    if not reader.splits:
        raise DataError(f"{printable(folders[0].annotations)}: no file is one of LabelMe's")
    return ShapeDataset(reader.splits, (), (*warnings, *reader.lines()))


@dataclass
class _Reader:
    """Read files, and count what is skipped."""

    splits: dict[str, list[ShapeImage]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)

    def read(self, folders: AnnotationFolders) -> None:
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
            path = images.files[found] if found else _listed_image(content, file)
            tops = [k.split("/")[0] for k in (key, found or "") if "/" in k]
            by_folder = next(filter(None, map(split_of_name, tops)), "train")
            image = _image(content, path, file)
            self.splits.setdefault(folders.split or by_folder, []).append(image)
        self.unlisted += sorted(unlisted)

    def lines(self) -> list[str]:
        """Return one line for each kind of file that was skipped."""
        return [
            f"{len(names)} {what} are skipped: {name_some(names)}"
            for what, names in (
                ("JSON files that are not LabelMe's", self.others),
                ("images without a LabelMe file", self.unlisted),
            )
            if names
        ]


def _image(content: dict[str, Any], path: Path, file: Path) -> ShapeImage:
    shown = printable(file)
    shapes = [_shape(row, f"{shown}: shape {i}") for i, row in enumerate(content["shapes"])]
    size, turned = annotation_size(path, content.get("imageHeight"), content.get("imageWidth"))
    return ShapeImage(path, shown, tuple(shapes), size, turned)


def _shape(row: dict[str, Any], where: str) -> Shape:
    name, kind = row.get("label"), row.get("shape_type") or "polygon"
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where} has no label")
    if kind not in REGIONS:
        return Shape(show_value(kind))
    group = row.get("group_id")
    return Shape(
        kind,
        _region(row, kind, where),
        class_name(name.strip()),
        None if group is None else str(group),
        ignored=name.strip() == IGNORED,
    )


def _region(row: dict[str, Any], kind: str, where: str) -> Region:
    points = row.get("points")
    if (
        not isinstance(points, list)
        or not points
        or not all(isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in points)
    ):
        raise DataError(f"{where} has points={show_value(points)}; expected pairs of x and y")
    pairs = tuple((float(x), float(y)) for x, y in points)
    if kind in OUTLINES:
        return Polygon(pairs)
    if kind == "circle":
        if len(pairs) != 2:
            raise DataError(f"{where} is a circle of {len(pairs)} points; expected 2")
        radius = math.dist(*pairs)
        return Ellipse(pairs[0], (radius, radius))
    x1, y1, x2, y2 = around(pairs)
    if kind == "mask":  # its points are the first and the last pixel
        mask = row.get("mask")
        return Bitmap((x1, y1, x2 + 1, y2 + 1), mask if isinstance(mask, str) else "", "png")
    return Rectangle((x1, y1, x2, y2))


def _listed_image(content: dict[str, Any], file: Path) -> Path:
    """Return the path of an image that is not found by the name of its file."""
    name = content.get("imagePath")
    if not isinstance(name, str) or not name:
        return file.with_suffix(".jpg")
    return find_listed(file.parent, name) or file.parent / name.replace("\\", "/")


def _is_labelme(file: Path) -> bool:
    try:
        return file.stat().st_size <= MAX_SNIFFED and _has_shapes(read_json(file))
    except (OSError, DataError):
        return False


def _has_shapes(content: Any) -> bool:
    shapes = content.get("shapes") if isinstance(content, dict) else None
    return isinstance(shapes, list) and all(isinstance(shape, dict) for shape in shapes)

"""CVAT's own XML, "CVAT for images": https://docs.cvat.ai/docs/dataset_management/formats/."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

from visiongraft.data.annotations.image_files import (
    annotation_size,
    find_images,
    split_of_name,
)
from visiongraft.data.annotations.shapes import (
    Bitmap,
    Ellipse,
    Polygon,
    Rectangle,
    Region,
    Shape,
    ShapeDataset,
    ShapeImage,
)
from visiongraft.data.annotations.xml_files import read_xml
from visiongraft.data.decode import printable
from visiongraft.data.labels import class_name
from visiongraft.data.listing import files_in, folders_named, subfolders
from visiongraft.errors import DataError, name_some

FOLDERS = ("annotations", "annotation")
HEAD_BYTES = 4096
_ROOT = re.compile(rb"<annotations[\s>/]")


def find_cvat_files(folder: Path) -> dict[Path, str | None]:
    """Find CVAT's files in a folder, in its ``annotations``, or in the folder of each split.

    Args:
        folder: The folder to search.

    Returns:
        The split of each file; ``None`` if its images determine their splits. Empty if there are
        no such files.

    Raises:
        DataError: The folder cannot be read.
    """
    for parent in (folder, *folders_named(folder, FOLDERS)):
        found = [file for file in files_in(parent, ".xml") if is_cvat(file)]
        if found:
            return {file: split_of_name(file.stem) for file in found}
    below = [(p, split) for p in subfolders(folder) if (split := split_of_name(p.name))]
    return {file: split for p, split in below for file in files_in(p, ".xml") if is_cvat(file)}


def is_cvat(file: Path) -> bool:
    """Check whether the root of an XML file is that of CVAT, from its first few lines."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return False
    return _ROOT.search(head.replace(b"\0", b"")) is not None  # UTF-16 has null bytes


def read_cvat(files: dict[Path, str | None]) -> ShapeDataset:
    """Read files of "CVAT for images".

    Args:
        files: The split of each file; of ``None``, the ``subset`` of each image or the first folder
            in its name, and otherwise ``"train"``.

    Returns:
        The listed images with all of their shapes; class names in the order of the labels in the
        files.

    Raises:
        DataError: A file is damaged, or in the format "CVAT for video".
    """
    warnings: list[str] = []
    names: dict[str, None] = {}
    splits: dict[str, list[ShapeImage]] = {}
    for file, split in files.items():
        root = _load(file)
        for label in root.iterfind("meta//labels/label"):
            name = class_name((label.findtext("name") or "").strip())
            if name:
                names[name] = None
        images = root.findall("image")
        paths = _paths(images, file, split, warnings)
        for image, path in zip(images, paths, strict=True):
            own = split or _split_of(image)
            splits.setdefault(own, []).append(_image(image, path, file))
    if not splits:
        raise DataError(f"{name_some(map(printable, files))}: no image is listed")
    splits = {split: _once(listed, warnings) for split, listed in splits.items()}
    return ShapeDataset(splits, tuple(names), tuple(warnings))


def _load(file: Path) -> Element:
    root = read_xml(file)
    if root.tag != "annotations" or (root.find("track") is not None and root.find("image") is None):
        raise DataError(
            f"{printable(file)} is not in the format 'CVAT for images'; export it in that format, "
            "or in COCO's"
        )
    return root


def _paths(
    images: Sequence[Element], file: Path, split: str | None, warnings: list[str]
) -> list[Path]:
    names = [image.get("name") or "" for image in images]
    if not all(names):
        raise DataError(f"{printable(file)}: an image has no name")
    return find_images(names, file.parent, split or "train", warnings)


def _once(images: Sequence[ShapeImage], warnings: list[str]) -> list[ShapeImage]:
    """Return each image once, with all of its shapes."""
    found: dict[Path, ShapeImage] = {}
    twice: list[str] = []
    for image in images:
        first = found.setdefault(image.path, image)
        if first is image:
            continue
        twice.append(printable(image.path.name))
        if first.size != image.size:
            raise DataError(f"{image.where} is listed twice with different sizes; remove one")
        shapes = dict.fromkeys((*first.shapes, *image.shapes))
        found[image.path] = replace(first, shapes=tuple(shapes))
    if twice:
        warnings.append(
            f"{len(twice)} images that are listed twice were used once, with all of their shapes: "
            f"{name_some(twice)}"
        )
    return list(found.values())


def _split_of(image: Element) -> str:
    name = (image.get("name") or "").replace("\\", "/")
    words = (image.get("subset") or "", *name.split("/")[:-1])
    return next(filter(None, map(split_of_name, words)), "train")


def _image(image: Element, path: Path, file: Path) -> ShapeImage:
    shown = printable(image.get("name") or "")
    shapes = tuple(
        _shape(element, f"{printable(file)}: a {element.tag} in {shown}") for element in image
    )
    size, turned = annotation_size(path, image.get("height"), image.get("width"))
    return ShapeImage(path, f"{printable(file)}, {shown}", shapes, size, turned)


def _shape(element: Element, where: str) -> Shape:
    parse = REGIONS.get(element.tag)
    if parse is None:
        return Shape(printable(element.tag))
    name = class_name((element.get("label") or "").strip())
    if not name:
        raise DataError(f"{where} has no label")
    try:
        region, degrees = parse(element), _number(element.get("rotation") or "0")
        order = int(element.get("z_order") or 0)
    except ValueError:
        raise DataError(f"{where} has coordinates that are missing or not numbers") from None
    return Shape(element.tag, region, name, degrees=degrees, order=order)


def _numbers(element: Element, *names: str) -> list[float]:
    return [_number(element.get(name) or "") for name in names]


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a coordinate")
    return value


def _box(element: Element) -> Region:
    x1, y1, x2, y2 = _numbers(element, "xtl", "ytl", "xbr", "ybr")
    return Rectangle((x1, y1, x2, y2))


def _polygon(element: Element) -> Region:
    pairs = [point.split(",") for point in (element.get("points") or "").split(";")]
    return Polygon(tuple((_number(x), _number(y)) for x, y in pairs))


def _ellipse(element: Element) -> Region:
    x, y, width, height = _numbers(element, "cx", "cy", "rx", "ry")
    return Ellipse((x, y), (width, height))


def _mask(element: Element) -> Region:
    left, top, width, height = _numbers(element, "left", "top", "width", "height")
    return Bitmap((left, top, left + width, top + height), element.get("rle") or "", "runs")


REGIONS: dict[str, Callable[[Element], Region]] = {
    "box": _box,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "mask": _mask,
}

"""CVAT's own XML, "CVAT for images": https://docs.cvat.ai/docs/dataset_management/formats/."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

from visiongraft.data.decode import printable
from visiongraft.data.listing import files_in, folders_named, subfolders
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.formats.dataset import (
    BoxDataset,
    BoxSplit,
    around,
    in_order,
    rotated,
)
from visiongraft.plugins.detection.formats.image_files import (
    annotation_size,
    find_root,
    split_of_name,
)
from visiongraft.plugins.detection.formats.xml_files import read_xml
from visiongraft.plugins.detection.objects import Annotation, Box

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
            return _ROOT.search(stream.read(HEAD_BYTES)) is not None
    except OSError:
        return False


def read_cvat(files: dict[Path, str | None]) -> BoxDataset:
    """Read files of "CVAT for images".

    Rotated boxes, polygons, ellipses and masks become the upright boxes around them; other shapes
    are skipped and counted.

    Args:
        files: The split of each file; of ``None``, the ``subset`` of each image or the first folder
            in its name, and otherwise ``"train"``.

    Returns:
        Images with boxes; class names in the order of the labels in the first file, or else in
        alphabetical order.

    Raises:
        DataError: A file is damaged, or in the format "CVAT for video".
    """
    warnings: list[str] = []
    skipped: Counter[str] = Counter()
    turned: list[str] = []
    names: list[str] = []
    splits: dict[str, _Split] = {}
    for file, split in files.items():
        root = _load(file)
        names += [
            name
            for label in root.iterfind("meta//labels/label")
            if (name := (label.findtext("name") or "").strip())
        ]
        images = root.findall("image")
        paths = _paths(images, file, split, warnings)
        for image, path in zip(images, paths, strict=True):
            own = split or _split_of(image)
            found = splits.setdefault(own, _Split())
            found.paths.append(path)
            found.annotations.append(_annotation(image, path, file, (skipped, turned)))
    if not splits:
        raise DataError(f"{name_some(map(printable, files))}: no image is listed")
    if turned:
        warnings.append(
            f"{len(turned)} rotated boxes were replaced by the upright boxes around them: "
            f"{name_some(turned)}"
        )
    if skipped:
        counted = ", ".join(f"{count} {tag}" for tag, count in skipped.items())
        warnings.append(f"annotations that are not boxes were skipped: {counted}")
    used = {n for each in splits.values() for a in each.annotations for n in a.names}
    found_splits = {
        split: BoxSplit(FileSamples(each.paths, [()] * len(each.paths)), each.annotations)
        for split, each in splits.items()
    }
    return BoxDataset(found_splits, in_order(names, sorted(used)), tuple(warnings))


@dataclass
class _Split:
    paths: list[Path] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)


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
    names = [(image.get("name") or "").replace("\\", "/") for image in images]
    if not all(names):
        raise DataError(f"{printable(file)}: an image has no name")
    root = find_root(names, file.parent, split or "train", warnings)
    return [root / name for name in names]


def _split_of(image: Element) -> str:
    name = (image.get("name") or "").replace("\\", "/")
    words = (image.get("subset") or "", *name.split("/")[:-1])
    return next(filter(None, map(split_of_name, words)), "train")


def _annotation(
    image: Element, path: Path, file: Path, tallies: tuple[Counter[str], list[str]]
) -> Annotation:
    skipped, turned = tallies
    boxes: list[Box] = []
    names = []
    shown = printable(image.get("name") or "")
    for shape in image:
        convert = SHAPES.get(shape.tag)
        if convert is None:
            skipped[shape.tag] += 1
            continue
        name = (shape.get("label") or "").strip()
        if not name:
            raise DataError(f"{printable(file)}: a {shape.tag} in {shown} has no label")
        try:
            box, degrees = convert(shape), float(shape.get("rotation") or 0)
        except ValueError:
            raise DataError(
                f"{printable(file)}: a {shape.tag} in {shown} has coordinates that are missing or "
                "not numbers"
            ) from None
        if degrees % 360:
            box = rotated(box, degrees)
            turned.append(shown)
        boxes.append(box)
        names.append(name)
    size, undecided = annotation_size(path, image.get("height"), image.get("width"))
    return Annotation(boxes, names, size, turned=undecided)


def _numbers(shape: Element, *names: str) -> list[float]:
    return [float(shape.get(name) or "") for name in names]


def _box(shape: Element) -> Box:
    x1, y1, x2, y2 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    return x1, y1, x2, y2


def _polygon(shape: Element) -> Box:
    pairs = [point.split(",") for point in (shape.get("points") or "").split(";")]
    return around([(float(x), float(y)) for x, y in pairs])


def _ellipse(shape: Element) -> Box:
    x, y, width, height = _numbers(shape, "cx", "cy", "rx", "ry")
    return x - width, y - height, x + width, y + height


def _mask(shape: Element) -> Box:
    left, top, width, height = _numbers(shape, "left", "top", "width", "height")
    return left, top, left + width, top + height


SHAPES: dict[str, Callable[[Element], Box]] = {
    "box": _box,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "mask": _mask,
}

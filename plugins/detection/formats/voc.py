"""The XML files of Pascal VOC: one file of boxes for each image."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from visiongraft.data.decode import printable
from visiongraft.data.listing import files_in, is_image
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.formats.dataset import (
    PASSED_OVER,
    BoxDataset,
    BoxSplit,
    in_order,
    is_background,
)
from visiongraft.plugins.detection.formats.image_files import image_size, part_of, part_of_name
from visiongraft.plugins.detection.formats.voc_layouts import ImageIndex, Place
from visiongraft.plugins.detection.objects import Annotation, AnnotationTally, Box

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(places: Sequence[Place], warnings: Sequence[str] = ()) -> BoxDataset:
    """Read XML files.

    Coordinates are taken as they are written. Objects marked as difficult count as crowd regions:
    VOC leaves them out of its metric too.

    Args:
        places: Where they lie, at least one. Files that neither a place, nor a list, nor a folder
            such as ``train`` below it puts into a part are ``"train"``.
        warnings: What was passed over before.

    Returns:
        Images with boxes; label names in alphabetical order.

    Raises:
        DataError: A file is missing or damaged.
    """
    tally = AnnotationTally()
    said = list(warnings)
    parts: dict[str, BoxSplit] = {}
    for place in places:
        for part, rows in _read_place(place, tally, said).items():
            paths, annotations = zip(*rows, strict=True)
            parts[part] = BoxSplit(FileSamples(paths, [()] * len(paths)), annotations)
    if not parts:
        raise DataError(f"{printable(places[0].lists)}: no image is listed")
    names = {n for part in parts.values() for each in part.annotations for n in each.names}
    return BoxDataset(parts, in_order(sorted(names)), tuple(said), tally)


def _read_place(
    place: Place, tally: AnnotationTally, warnings: list[str]
) -> dict[str, list[tuple[Path, Annotation]]]:
    """Read the XML files of one place; gives images with boxes by part."""
    images = ImageIndex(place.images)
    found: dict[str, list[tuple[Path, Annotation]]] = {}
    unlisted = set(images.files)
    for part, files in _files(place, images).items():
        for file in files:
            key = _key(file, place)
            annotation, name = _read_file(file, tally)
            listed = images.find(key)
            unlisted.discard(listed or "")
            path = images.files[listed] if listed else place.images / (name or f"{key}.jpg")
            if annotation.size is None:
                annotation = replace(annotation, size=image_size(path))
            found.setdefault(part, []).append((path, annotation))
    if unlisted:
        warnings.append(
            f"{len(unlisted)} images in {printable(place.images)} are in no list or have no "
            f"annotation, and are passed over: {name_some(sorted(unlisted))}"
        )
    return found


def _key(file: Path, place: Place) -> str:
    return file.relative_to(place.annotations).with_suffix("").as_posix()


def _files(place: Place, images: ImageIndex) -> dict[str, list[Path]]:
    """Divide XML files: by place, else by lists, else by the folders of XML files or images."""
    if place.part is not None:
        return {place.part: list(place.files)}
    listed = _lists(place.lists)
    if listed:
        return {part: _listed(file, place) for part, file in listed.items()}
    found: dict[str, list[Path]] = {}
    for file in place.files:
        key = _key(file, place)
        tops = [k.split("/")[0] for k in (key, images.find(key) or "") if "/" in k]
        part = next(filter(None, map(part_of_name, tops)), "train")
        found.setdefault(part, []).append(file)
    return found


def _lists(folder: Path) -> dict[str, Path]:
    lists = {f.stem: f for f in files_in(folder, ".txt")}
    if "train" in lists:
        lists.pop("trainval", None)  # holds train and val
    return {part: lists[name] for name in lists if (part := part_of([name]))}


def _listed(file: Path, place: Place) -> list[Path]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{printable(file)}: cannot be read: {error}") from error
    known = {_key(path, place): path for path in place.files}
    names = dict.fromkeys(_name(line.strip(), known) for line in lines if line.strip())
    return [known.get(name, place.annotations / f"{name}.xml") for name in names]


def _name(line: str, known: Container[str]) -> str:
    """Read a line of a list: a name, maybe with a suffix, and maybe one more word."""
    if line in known:
        return line
    if is_image(Path(line)) and line.rpartition(".")[0] in known:
        return line.rpartition(".")[0]
    beside = re.fullmatch(r"(.+?)\s+\S+", line)
    return beside[1] if beside and beside[1] in known else line.split()[0]


def _read_file(file: Path, tally: AnnotationTally) -> tuple[Annotation, str]:
    """Read one XML file; gives the image's file name too."""
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except OSError as error:
        raise DataError(f"{printable(file)}: cannot be read: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{printable(file)} is no XML: {error}") from error
    boxes: list[Box] = []
    names, crowd = [], []
    for entry in root.iter("object"):
        name = (entry.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{printable(file)}: an object has no name")
        if is_background(name):
            tally.add(PASSED_OVER, printable(file))
            continue
        boxes.append(_box(entry, file))
        names.append(name)
        crowd.append((entry.findtext("difficult") or "0").strip() == "1")
    return Annotation(boxes, names, _size(root), crowd), (root.findtext("filename") or "").strip()


def _box(entry: ElementTree.Element, file: Path) -> Box:
    texts = [entry.findtext(f"bndbox/{corner}") for corner in CORNERS]
    try:
        x1, y1, x2, y2 = (float(text or "") for text in texts)
    except ValueError:
        raise DataError(
            f"{printable(file)}: an object has bndbox {texts}; it takes {', '.join(CORNERS)} in "
            "pixels"
        ) from None
    return x1, y1, x2, y2


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        height, width = (int(root.findtext(f"size/{side}") or 0) for side in ("height", "width"))
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None

"""The XML files of Pascal VOC: one file of boxes for each image."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from visiongraft.data.annotations.folders import AnnotationFolders, find_image
from visiongraft.data.annotations.image_files import (
    annotation_size,
    split_of,
    split_of_name,
)
from visiongraft.data.annotations.shapes import rotated
from visiongraft.data.annotations.xml_files import only_child, read_xml
from visiongraft.data.decode import printable, read_lines
from visiongraft.data.labels import class_name
from visiongraft.data.listing import FileIndex, files_in, is_image, list_images
from visiongraft.data.names import find_listed
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.formats.dataset import BoxDataset, BoxSplit, in_order
from visiongraft.plugins.detection.objects import Annotation, Box

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(folders: Sequence[AnnotationFolders], warnings: Sequence[str] = ()) -> BoxDataset:
    """Read XML files.

    Coordinates are used as written; boxes that CVAT rotates are replaced by the boxes around them.
    Objects marked as difficult become crowd regions: VOC's own
    metric ignores them too.

    Args:
        folders: At least one. Files that neither it, nor a list, nor a folder such as ``train``
            below it assigns to a split are ``"train"``.
        warnings: What was skipped so far.

    Returns:
        Images with boxes; class names in alphabetical order.

    Raises:
        DataError: A file is missing or damaged.
    """
    lines = list(warnings)
    splits: dict[str, BoxSplit] = {}
    for each in folders:
        for split, rows in _read_folders(each, lines).items():
            paths, annotations = zip(*rows, strict=True)
            splits[split] = BoxSplit(FileSamples(paths, [()] * len(paths)), annotations)
    if not splits:
        raise DataError(f"{printable(folders[0].lists)}: no image is listed")
    names = {n for split in splits.values() for each in split.annotations for n in each.names}
    return BoxDataset(splits, in_order(sorted(names)), tuple(lines))


def _read_folders(
    folders: AnnotationFolders, warnings: list[str]
) -> dict[str, list[tuple[Path, Annotation]]]:
    """Read the XML files of one folder; return images and annotations by split."""
    listed = list_images(folders.images) if folders.images.is_dir() else []
    images = FileIndex(folders.images, listed)
    found: dict[str, list[tuple[Path, Annotation]]] = {}
    unlisted = set(images.files)
    turned: list[str] = []
    for split, files in _files(folders, images).items():
        for file in files:
            key = _key(file, folders)
            annotation, name, sides = _read_file(file, turned)
            found_key = find_image(images, key)
            unlisted.discard(found_key or "")
            path = (
                images.files[found_key]
                if found_key
                else find_listed(folders.images, name) or folders.images / (name or f"{key}.jpg")
            )
            size, undecided = annotation_size(path, *sides)
            annotation = replace(annotation, size=size, turned=undecided)
            found.setdefault(split, []).append((path, annotation))
    if turned:
        warnings.append(
            f"{len(turned)} rotated boxes were replaced by the upright boxes around them: "
            f"{name_some(dict.fromkeys(turned))}"
        )
    if unlisted:
        warnings.append(
            f"{len(unlisted)} images in {printable(folders.images)} are in no list or have no "
            f"annotation, and are skipped: {name_some(sorted(unlisted))}"
        )
    return found


def _key(file: Path, folders: AnnotationFolders) -> str:
    return file.relative_to(folders.annotations).with_suffix("").as_posix()


def _files(folders: AnnotationFolders, images: FileIndex) -> dict[str, list[Path]]:
    """Split XML files by folder, by lists, or by the subfolders of XML files or images."""
    if folders.split is not None:
        return {folders.split: list(folders.files)}
    listed = _lists(folders.lists)
    if listed:
        return {split: _listed(file, folders) for split, file in listed.items()}
    found: dict[str, list[Path]] = {}
    for file in folders.files:
        key = _key(file, folders)
        tops = [k.split("/")[0] for k in (key, find_image(images, key) or "") if "/" in k]
        split = next(filter(None, map(split_of_name, tops)), "train")
        found.setdefault(split, []).append(file)
    return found


def _lists(folder: Path) -> dict[str, Path]:
    lists = {f.stem: f for f in files_in(folder, ".txt")}
    if "train" in lists:
        lists.pop("trainval", None)  # contains train and val
    return {split: lists[name] for name in lists if (split := split_of([name]))}


def _listed(file: Path, folders: AnnotationFolders) -> list[Path]:
    known = {_key(path, folders): path for path in folders.files}
    names = dict.fromkeys(_name(line, known) for line in read_lines(file))
    return [known.get(name, folders.annotations / f"{name}.xml") for name in names]


def _name(line: str, known: Container[str]) -> str:
    """Parse a line of a list: a name, maybe with a suffix, and maybe followed by a flag."""
    if line in known:
        return line
    if is_image(Path(line)) and line.rpartition(".")[0] in known:
        return line.rpartition(".")[0]
    beside = re.fullmatch(r"(.+?)\s+\S+", line)
    return beside[1] if beside and beside[1] in known else line.split()[0]


def _read_file(file: Path, turned: list[str]) -> tuple[Annotation, str, tuple[Any, Any]]:
    """Read one XML file.

    Args:
        file: The file.
        turned: The file is appended for each box that was rotated.

    Returns:
        Its boxes, without the size of the image; the file name of its image; and height and width
        as they are written.
    """
    root = read_xml(file)
    if root.tag != "annotation":
        raise DataError(
            f"{printable(file)} is not one of Pascal VOC's XML files: its root is <{root.tag}>, not "
            "<annotation>; export it in Pascal VOC's or COCO's format"
        )
    boxes: list[Box] = []
    names, crowd = [], []
    for entry in root.iter("object"):
        name = class_name(_text(only_child(entry, "name", file)))
        if not name:
            raise DataError(f"{printable(file)}: an object has no name")
        box, degrees = _box(entry, file), _rotation(entry)
        if degrees % 360:
            box = rotated(box, degrees)
            turned.append(printable(file))
        boxes.append(box)
        names.append(name)
        crowd.append(_text(entry.find("difficult")).lower() in ("1", "true"))
    annotation = Annotation(boxes, names, None, crowd)
    sides = (root.findtext("size/height"), root.findtext("size/width"))
    return annotation, _text(root.find("filename")), sides


def _box(entry: Element, file: Path) -> Box:
    found = only_child(entry, "bndbox", file)
    texts = [None if found is None else found.findtext(corner) for corner in CORNERS]
    try:
        x1, y1, x2, y2 = (float(text or "") for text in texts)
    except ValueError:
        raise DataError(
            f"{printable(file)}: an object has bndbox {texts}; expected {', '.join(CORNERS)} in "
            "pixels"
        ) from None
    return x1, y1, x2, y2


def _rotation(entry: Element) -> float:
    """Return the angle in degrees that CVAT writes beside the box before its rotation."""
    for attribute in entry.iterfind("attributes/attribute"):
        if _text(attribute.find("name")) == "rotation":
            try:
                return float(_text(attribute.find("value")))
            except ValueError:
                return 0.0
    return 0.0


def _text(element: Element | None) -> str:
    return "" if element is None else (element.text or "").strip()

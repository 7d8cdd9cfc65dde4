"""The folders of Pascal VOC: an XML file of boxes beside each picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from visiongraft.data.decode import printable
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.found import PASSED_OVER, Part, Source, in_order, is_background
from visiongraft.plugins.detection.objects import Annotation, Box, Tally
from visiongraft.plugins.detection.pictures import is_picture, part_of, picture_size

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc(folder: Path) -> bool:
    """Say whether a folder has ``Annotations`` with XML files in it."""
    return any((folder / "Annotations").glob("*.xml"))


def read_voc(folder: Path) -> Source:
    """Read a folder of Pascal VOC.

    Coordinates are taken as they are written. Objects marked as difficult count as crowd regions:
    VOC leaves them out of its metric too.

    Args:
        folder: Holds ``Annotations/NAME.xml``, ``JPEGImages/NAME.jpg`` and maybe
            ``ImageSets/Main/{train,val,test}.txt`` with names; without them all is ``"train"``.

    Returns:
        Pictures with boxes; label names in alphabetical order.

    Raises:
        DataError: A file is missing or damaged.
    """
    tally = Tally()
    pictures = {p.stem: p for p in sorted((folder / "JPEGImages").glob("*")) if is_picture(p)}
    parts: dict[str, Part] = {}
    seen: set[str] = set()
    unlisted = set(pictures)
    for part, stems in _stems(folder).items():
        paths, annotations = [], []
        for stem in stems:
            annotation, name = _read_file(folder / "Annotations" / f"{stem}.xml", tally)
            path = pictures.get(stem) or folder / "JPEGImages" / (name or f"{stem}.jpg")
            if annotation.size is None:
                annotation = Annotation(
                    annotation.boxes, annotation.names, picture_size(path), annotation.crowd
                )
            paths.append(path)
            annotations.append(annotation)
            seen.update(annotation.names)
            unlisted.discard(stem)
        if paths:
            parts[part] = Part(FileSamples(paths, [()] * len(paths)), annotations)
    if not parts:
        raise DataError(f"{printable(folder)}: no picture is listed in ImageSets/Main")
    warnings = []
    if unlisted:
        warnings.append(
            f"{len(unlisted)} pictures in {printable(folder / 'JPEGImages')} are in no list or "
            f"have no annotation, and are passed over: {name_some(sorted(unlisted))}"
        )
    return Source(parts, in_order(sorted(seen)), tuple(warnings), tally)


def _stems(folder: Path) -> Mapping[str, list[str]]:
    """List the pictures of each part, as the lists have them."""
    lists = {f.stem: f for f in sorted((folder / "ImageSets" / "Main").glob("*.txt"))}
    if "train" in lists:
        lists.pop("trainval", None)  # holds train and val
    chosen = {part: lists[name] for name in lists if (part := part_of([name]))}
    if not chosen:
        return {"train": sorted(f.stem for f in (folder / "Annotations").glob("*.xml"))}
    found = {}
    for part, file in chosen.items():
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise DataError(f"{printable(file)}: cannot be read: {error}") from error
        found[part] = list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
    return found


def _read_file(file: Path, tally: Tally) -> tuple[Annotation, str]:
    """Read one XML file; gives the picture's file name too."""
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

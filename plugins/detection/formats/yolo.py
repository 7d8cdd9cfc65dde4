"""YOLO's text files: one line per box, in shares of the image's width and height."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable, read_file
from visiongraft.data.listing import files_in, folders_named
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.formats.dataset import (
    PASSED_OVER,
    BoxDataset,
    BoxSplit,
    in_order,
    is_background,
)
from visiongraft.plugins.detection.formats.image_files import image_size
from visiongraft.plugins.detection.objects import Annotation, AnnotationTally, Box

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels")
LINE = "a line takes class id, center x, center y, width and height, the last four in 0..1"


def read_images(
    images: Mapping[str, list[Path]],
    names: Mapping[int, str],
    file: Path,
    warnings: Sequence[str] = (),
    absent: Sequence[str] = (),
) -> BoxDataset:
    """Read the label files of images.

    Args:
        images: By part.
        names: Label names by class id.
        file: Where those are from.
        warnings: What was passed over before.
        absent: Parts that should be there and are not.

    Returns:
        Images with boxes; label names in the order of their class ids.

    Raises:
        DataError: There are no images, or a label file is damaged.
    """
    tally, labels = AnnotationTally(), _LabelFiles()
    parts = {
        part: BoxSplit(
            FileSamples(paths, [()] * len(paths)),
            [_annotation(path, labels.find(path), names, file, tally) for path in paths],
        )
        for part, paths in images.items()
        if paths
    }
    if not parts:
        raise DataError(f"{printable(file)}: there are no images")
    said = list(warnings)
    lost = labels.unused()
    if lost:
        said.append(
            f"{len(lost)} label files without an image are passed over: "
            f"{name_some(printable(path) for path in lost)}"
        )
    order = in_order([names[i] for i in sorted(names)])
    return BoxDataset(parts, order, tuple(said), tally, tuple(absent))


def names_by_id(names: Any, file: Path) -> dict[int, str]:
    """Give the names of classes by their ids.

    Args:
        names: A list, or a dict by class id.
        file: Where they are from.

    Returns:
        The names.

    Raises:
        DataError: They are neither, or none.
    """
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DataError(f"{printable(file)}: names={names!r} is no list of class names")
    found = {int(i): str(n) for i, n in names.items() if str(i).isdecimal() and str(n)}
    if len(found) != len(names):
        raise DataError(f"{printable(file)}: names are given by class id (0, 1, ...), not {names}")
    return found


def text_lines(file: Path) -> list[str]:
    """Read the lines of a text file that are not empty, without spaces around them.

    Args:
        file: Of class names, or of paths.

    Returns:
        The lines.

    Raises:
        DataError: It cannot be read.
    """
    text = read_file(file).decode("utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


@dataclass
class _LabelFiles:
    """Finds the label files of images, listing each folder once."""

    folders: dict[Path, Path] = field(default_factory=dict)
    files: dict[Path, dict[str, Path]] = field(default_factory=dict)
    used: set[Path] = field(default_factory=set)

    def find(self, image: Path) -> Path | None:
        folder = self.folders.setdefault(image.parent, _labels_folder(image.parent))
        if folder not in self.files:
            self.files[folder] = {path.stem: path for path in files_in(folder, ".txt")}
        found = self.files[folder].get(image.stem)
        if found is not None:
            self.used.add(found)
        return found

    def unused(self) -> list[Path]:
        files = {path for each in self.files.values() for path in each.values()}
        return sorted(path for path in files - self.used if path.name not in NAME_FILES)


def _labels_folder(images: Path) -> Path:
    """Give the folder of the labels: ``images`` becomes ``labels`` where it comes last.

    Where there is none, they lie beside the images.
    """
    parts = list(images.parts)
    for i in range(len(parts) - 1, -1, -1):
        if parts[i].lower() == "images":
            above = Path(*parts[:i])
            labels = folders_named(above, ("labels",)) if above.is_dir() else []
            folder = Path(*labels[:1], *parts[i + 1 :])
            return folder if labels and folder.is_dir() else images
    return images


def _annotation(
    image: Path, labels: Path | None, names: Mapping[int, str], file: Path, tally: AnnotationTally
) -> Annotation:
    """Read the boxes of one image; no label file means no boxes."""
    size = image_size(image)
    if size is None or labels is None:
        return Annotation((), (), size)
    boxes: list[Box] = []
    found = []
    for number, line in enumerate(_lines(labels), start=1):
        where = f"{printable(labels)}:{number}"
        label, box = _box(line, size, where)
        if label not in names:
            raise DataError(
                f"{where}: class id {label} has no name in {printable(file)}, only "
                f"{name_some(map(str, sorted(names)))}"
            )
        if is_background(names[label]):
            tally.add(PASSED_OVER, printable(image))
            continue
        boxes.append(box)
        found.append(names[label])
    return Annotation(boxes, found, size)


def _lines(labels: Path) -> Iterable[str]:
    try:
        return [
            line for line in labels.read_text(encoding="utf-8-sig").splitlines() if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise DataError(f"{printable(labels)}: cannot be read: {error}") from error


def _box(line: str, size: tuple[int, int], where: str) -> tuple[int, Box]:
    """Read one line; of an outline the box around it."""
    try:
        first, *values = (float(text) for text in line.split())
    except ValueError:
        raise DataError(f"{where}: {line.strip()[:40]!r} is not all numbers; {LINE}") from None
    outline = len(values) >= 6 and len(values) % 2 == 0
    if not first.is_integer() or not (len(values) == 4 or outline):
        raise DataError(f"{where}: {line.strip()[:40]!r} is no box; {LINE}")
    return int(first), _in_pixels(values, size)


def _in_pixels(values: Sequence[float], size: tuple[int, int]) -> Box:
    height, width = size
    if len(values) == 4:
        x, y, w, h = values
        left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    else:
        left, right = min(values[0::2]), max(values[0::2])
        top, bottom = min(values[1::2]), max(values[1::2])
    return left * width, top * height, right * width, bottom * height

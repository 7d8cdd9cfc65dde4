"""YOLO's label files: one line per box, in fractions of the image's width and height."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiongraft.data.decode import SMALL_FILE_BYTES, printable, read_lines
from visiongraft.data.listing import files_in, folders_named
from visiongraft.data.parsing import parse_number, show_value
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.formats.dataset import BoxDataset, BoxSplit, in_order
from visiongraft.plugins.detection.formats.image_files import image_size
from visiongraft.plugins.detection.objects import Annotation, Box

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels")
LINE = "expected class id, center x, center y, width and height, the last four in 0..1"


def read_images(
    images: Mapping[str, list[Path]],
    names: Mapping[int, str],
    file: Path,
    warnings: Sequence[str] = (),
    absent: Sequence[str] = (),
) -> BoxDataset:
    """Read the label files of images.

    Args:
        images: The images by split.
        names: Class names by id.
        file: The file of these names.
        warnings: What was skipped so far.
        absent: Splits that should exist, but do not.

    Returns:
        Images with boxes; class names in the order of their ids.

    Raises:
        DataError: There are no images, or a label file is damaged.
    """
    labels = _LabelFiles()
    splits = {
        split: BoxSplit(
            FileSamples(paths, [()] * len(paths)),
            [_annotation(path, labels.find(path), names, file) for path in paths],
        )
        for split, paths in images.items()
        if paths
    }
    if not splits:
        raise DataError(f"{printable(file)}: there are no images")
    lines = list(warnings)
    unused = labels.unused()
    if unused:
        lines.append(
            f"{len(unused)} label files without an image are skipped: "
            f"{name_some(printable(path) for path in unused)}"
        )
    order = in_order([names[i] for i in sorted(names)])
    return BoxDataset(splits, order, tuple(lines), tuple(absent))


def names_by_id(names: Any, file: Path) -> dict[int, str]:
    """Return class names by id.

    Args:
        names: A list, or a dict by class id.
        file: The file of these names.

    Returns:
        The names.

    Raises:
        DataError: ``names`` is neither, or empty.
    """
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DataError(
            f"{printable(file)}: names={show_value(names)} is not a list of class names"
        )
    found = {
        number: str(name)
        for key, name in names.items()
        if (number := parse_number(str(key))) is not None
        and str(name)
        and not isinstance(name, (list, dict))
    }
    if len(found) != len(names):
        raise DataError(
            f"{printable(file)}: expected names by class id (0, 1, ...), not {show_value(names)}"
        )
    return found


@dataclass
class _LabelFiles:
    """Find the label files of images, listing each folder once."""

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
    """Return the folder of the label files: the last ``images`` in the path becomes ``labels``.

    If there is no such folder, they are beside the images.
    """
    folders = list(images.parts)
    for i in range(len(folders) - 1, -1, -1):
        if folders[i].lower() == "images":
            above = Path(*folders[:i])
            labels = folders_named(above, ("labels",)) if above.is_dir() else []
            folder = Path(*labels[:1], *folders[i + 1 :])
            return folder if labels and folder.is_dir() else images
    return images


def _annotation(
    image: Path, labels: Path | None, names: Mapping[int, str], file: Path
) -> Annotation:
    """Read the boxes of one image; no label file means no boxes."""
    size = image_size(image)
    if size is None or labels is None:
        return Annotation((), (), size)
    boxes: list[Box] = []
    class_names = []
    for number, line in enumerate(read_lines(labels, SMALL_FILE_BYTES), start=1):
        where = f"{printable(labels)}:{number}"
        class_id, box = _box(line, size, where)
        if class_id not in names:
            raise DataError(
                f"{where}: class id {class_id} has no name in {printable(file)}, only "
                f"{name_some(map(str, sorted(names)))}"
            )
        boxes.append(box)
        class_names.append(names[class_id])
    return Annotation(boxes, class_names, size)


def _box(line: str, size: tuple[int, int], where: str) -> tuple[int, Box]:
    """Read one line; of an outline, return its bounding box."""
    try:
        first, *values = (float(text) for text in line.split())
    except ValueError:
        raise DataError(
            f"{where}: {line.strip()[:40]!r} contains other than numbers; {LINE}"
        ) from None
    outline = len(values) >= 6 and len(values) % 2 == 0
    if not first.is_integer() or not (len(values) == 4 or outline):
        raise DataError(f"{where}: {line.strip()[:40]!r} is not a box; {LINE}")
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

"""YOLO's label files: one line per box, in fractions of the image's width and height."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiongraft.data.annotations.image_files import read_header
from visiongraft.data.decode import printable
from visiongraft.data.labels import class_name
from visiongraft.data.listing import files_in, folders_named
from visiongraft.data.names import spellings
from visiongraft.data.parsing import parse_number, show_value
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some, shorten
from visiongraft.plugins.detection.formats.dataset import (
    BoxDataset,
    BoxForm,
    BoxSplit,
    in_order,
)
from visiongraft.plugins.detection.formats.yolo_lines import (
    Keypoints,
    Line,
    guess_keypoints,
    read_label_file,
)
from visiongraft.plugins.detection.objects import Annotation

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels")
FORM = BoxForm("center", "fractions")


def read_images(
    images: Mapping[str, list[Path]],
    names: Mapping[int, str],
    file: Path,
    warnings: Sequence[str] = (),
    absent: Sequence[str] = (),
    keypoints: Keypoints | None = None,
) -> BoxDataset:
    """Read the label files of images.

    Args:
        images: The images by split.
        names: Class names by id.
        file: The file of these names.
        warnings: What was skipped so far.
        absent: Splits that should exist, but do not.
        keypoints: The keypoints that follow each box, if these are known to be pose labels.

    Returns:
        Images with boxes; class names in the order of their ids.

    Raises:
        DataError: There are no images, or a label file is damaged.
    """
    labels = _LabelFiles()
    lines = list(warnings)
    rows = {
        split: [_Row(path, labels.find(path)) for path in _unique(paths, lines)]
        for split, paths in images.items()
        if paths
    }
    if not rows:
        raise DataError(f"{printable(file)}: there are no images")
    every = [line for found in rows.values() for row in found for line in row.lines]
    if keypoints is None:
        keypoints = guess_keypoints(every, lines)
    _check_classes(every, names, file)
    lines += _same_names(names, file)
    unused = labels.unused()
    if unused:
        lines.append(
            f"{len(unused)} label files without an image are skipped: "
            f"{name_some(printable(path) for path in unused)}"
        )
    splits = {split: _split(found, names, keypoints) for split, found in rows.items()}
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
        number: class_name(str(name))
        for key, name in names.items()
        if (number := parse_number(str(key))) is not None
        and str(name)
        and isinstance(name, str | int | float)
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
        known = self.files[folder]
        found = next((known[stem] for stem in spellings(image.stem) if stem in known), None)
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


@dataclass
class _Row:
    """An image, its label file if there is one, and the lines of that."""

    image: Path
    labels: Path | None
    lines: list[Line] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = [] if self.labels is None else read_label_file(self.labels)


def _unique(paths: Sequence[Path], warnings: list[str]) -> list[Path]:
    found = list(dict.fromkeys(paths))
    if len(found) < len(paths):
        twice = [printable(path) for path, count in Counter(paths).items() if count > 1]
        warnings.append(
            f"{len(twice)} images that are listed twice were used once: {name_some(twice)}"
        )
    return found


def _check_classes(lines: Sequence[Line], names: Mapping[int, str], file: Path) -> None:
    for line in lines:
        if line.class_id not in names:
            raise DataError(
                f"{line.where}: class id {line.class_id} has no name in {printable(file)}, only "
                f"{name_some(map(str, sorted(names)))}"
            )


def _same_names(names: Mapping[int, str], file: Path) -> list[str]:
    """Return one line for each name that several class ids have."""
    ids: dict[str, list[str]] = {}
    for number, name in sorted(names.items()):
        ids.setdefault(name, []).append(str(number))
    return [
        f"{printable(file)}: the class ids {name_some(same)} are all named {shorten(repr(name))} and are "
        "one class"
        for name, same in ids.items()
        if len(same) > 1
    ]


def _split(rows: Sequence[_Row], names: Mapping[int, str], keypoints: Keypoints | None) -> BoxSplit:
    paths = [row.image for row in rows]
    unlabeled = tuple(printable(row.image) for row in rows if row.labels is None)
    annotations = [_annotation(row, names, keypoints) for row in rows]
    return BoxSplit(FileSamples(paths, [()] * len(paths)), annotations, FORM, unlabeled)


def _annotation(row: _Row, names: Mapping[int, str], keypoints: Keypoints | None) -> Annotation:
    """Convert the lines of one image; no label file means no boxes."""
    fractions = [line.box(keypoints) for line in row.lines]
    header = read_header(row.image)
    if header is None:
        return Annotation((), (), None)
    height, width = header.size
    boxes = [(x1 * width, y1 * height, x2 * width, y2 * height) for x1, y1, x2, y2 in fractions]
    class_names = [names[line.class_id] for line in row.lines]
    return Annotation(boxes, class_names, header.size, turned=header.turned)

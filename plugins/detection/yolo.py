"""YOLO's text files: one line per box, in shares of the picture's width and height."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable
from visiongraft.data.folder import list_pictures
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.found import PASSED_OVER, Part, Source, in_order, is_background
from visiongraft.plugins.detection.objects import Annotation, Box, Tally
from visiongraft.plugins.detection.pictures import part_of, picture_size

CONFIGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
KEYS = (("train", "train"), ("val", "validation"), ("valid", "validation"), ("test", "test"))
LINE = "a line takes class id, centre x, centre y, width and height, the last four in 0..1"


def find_config(folder: Path) -> Path | None:
    """Find ``data.yaml`` in a folder."""
    return next((folder / name for name in CONFIGS if (folder / name).is_file()), None)


def is_yolo(folder: Path) -> bool:
    """Say whether a folder has ``images`` and ``labels`` in it."""
    return (folder / "images").is_dir() and (folder / "labels").is_dir()


def read_config(file: Path) -> Source:
    """Read a data set by its ``data.yaml``.

    Args:
        file: Names ``train``, ``val`` and ``test`` folders or lists of pictures, relative to
            ``path`` or to itself, and the ``names`` of the classes as a list or by class id.

    Returns:
        Pictures with boxes; label names in the order of their class ids.

    Raises:
        DataError: Something is missing or damaged.
    """
    config = _load(file)
    names = _names(config.get("names"), file)
    pictures: dict[str, list[Path]] = {}
    for key, part in KEYS:
        places = config.get(key) or []
        for place in [places] if isinstance(places, str) else places:
            pictures.setdefault(part, []).extend(_pictures(str(place), config, file))
    return _read(pictures, names, file)


def read_folders(folder: Path) -> Source:
    """Read ``images/`` and ``labels/`` with ``classes.txt``, each with or without part folders.

    Args:
        folder: Holds them; ``classes.txt``, one name a line, lies beside or in ``labels/``.

    Returns:
        Pictures with boxes; label names in the order of their class ids.

    Raises:
        DataError: Something is missing or damaged.
    """
    places = [folder / "classes.txt", folder / "labels" / "classes.txt"]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise DataError(
            f"{printable(folder)} has no classes.txt; write one with a class name on each line"
        )
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    names = _names([line.strip() for line in lines if line.strip()], file)
    folders = [p for p in sorted((folder / "images").iterdir()) if p.is_dir()]
    parts = {part: p for p in folders if (part := part_of([p.name]))}
    pictures = {part: list_pictures(place) for part, place in parts.items()}
    return _read(pictures or {"train": list_pictures(folder / "images")}, names, file)


def _load(file: Path) -> dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{printable(file)}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise DataError(f"{printable(file)} is no YAML: {cause}") from error
    if not isinstance(config, dict) or "names" not in config:
        raise DataError(f"{printable(file)} has no names; it takes train, val and names")
    return config


def _names(names: Any, file: Path) -> dict[int, str]:
    """Give the names by class id."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DataError(f"{printable(file)}: names={names!r} is no list of class names")
    found = {int(i): str(n) for i, n in names.items() if str(i).isdecimal() and str(n)}
    if len(found) != len(names):
        raise DataError(f"{printable(file)}: names are given by class id (0, 1, ...), not {names}")
    return found


def _pictures(place: str, config: dict[str, Any], file: Path) -> list[Path]:
    """List the pictures of a folder, or those in a list file."""
    base = file.parent / str(config.get("path") or "")
    options = [base / place, file.parent / place]
    # Some tools write paths as seen from a folder beside the file's own.
    options += [file.parent / place.removeprefix("../")]
    found = next((option for option in options if option.exists()), None)
    if found is None:
        raise DataError(f"{printable(file)} names {place}, which does not exist")
    if found.is_dir():
        return list_pictures(found)
    lines = found.read_text(encoding="utf-8", errors="replace").splitlines()
    return [
        next((p for p in (found.parent / line, base / line) if p.exists()), found.parent / line)
        for line in map(str.strip, lines)
        if line
    ]


def _read(pictures: dict[str, list[Path]], names: dict[int, str], file: Path) -> Source:
    tally = Tally()
    parts = {
        part: Part(
            FileSamples(paths, [()] * len(paths)),
            [_annotation(path, names, file, tally) for path in paths],
        )
        for part, paths in pictures.items()
        if paths
    }
    if not parts:
        raise DataError(f"{printable(file)}: there are no pictures")
    known = [path for paths in pictures.values() for path in paths]
    lost = _without_picture({_labels_of(path) for path in known})
    warnings = []
    if lost:
        warnings.append(
            f"{len(lost)} label files without a picture are passed over: "
            f"{name_some(printable(path) for path in lost)}"
        )
    return Source(parts, in_order([names[i] for i in sorted(names)]), tuple(warnings), tally)


def _without_picture(known: set[Path]) -> list[Path]:
    folders = {path.parent for path in known}
    files = (f for folder in folders for f in folder.glob("*.txt") if f.name != "classes.txt")
    return sorted(f for f in files if f not in known)


def _labels_of(picture: Path) -> Path:
    """Give the label file of a picture: ``images`` becomes ``labels`` where it comes last."""
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _annotation(picture: Path, names: dict[int, str], file: Path, tally: Tally) -> Annotation:
    """Read the boxes of one picture; no label file means no boxes."""
    size = picture_size(picture)
    labels = _labels_of(picture)
    if size is None or not labels.is_file():
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
            tally.add(PASSED_OVER, printable(picture))
            continue
        boxes.append(box)
        found.append(names[label])
    return Annotation(boxes, found, size)


def _lines(labels: Path) -> Iterable[str]:
    try:
        return [line for line in labels.read_text(encoding="utf-8").splitlines() if line.strip()]
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

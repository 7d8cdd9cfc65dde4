"""COCO's JSON files of boxes: https://cocodataset.org/#format-data."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.plugins.detection.found import PASSED_OVER, Part, Source, in_order, is_background
from visiongraft.plugins.detection.objects import Annotation, Tally
from visiongraft.plugins.detection.pictures import find_root, part_of, picture_size

SHAPE = "a COCO file holds the lists images, annotations and categories"


def find_files(folder: Path) -> dict[str, Path]:
    """Find the annotation files of a folder.

    Args:
        folder: Holds ``instances_train.json`` and the like, in itself, in ``annotations/``, or one
            file in each of ``train/``, ``valid/`` and ``test/``.

    Returns:
        Files by part; a single file that names no part is ``"train"``. None if there are none.

    Raises:
        DataError: Two files are of the same part.
    """
    for place in (folder, folder / "annotations"):
        files = sorted(place.glob("*.json"))
        own = [f for f in files if f.stem.startswith("instances")]
        found = _by_part(own or [f for f in files if part_of(_words(f.stem))], lambda f: f.stem)
        if found:
            return found
        if len(files) == 1 and _looks_right(files[0]):
            return {"train": files[0]}
    return _by_part(sorted(folder.glob("*/*.json")), lambda f: f.parent.name)


def read_coco(files: Mapping[str, Path]) -> Source:
    """Read annotation files.

    Args:
        files: By part.

    Returns:
        Pictures with boxes; label names in the order of the first file's category ids.

    Raises:
        DataError: A file is damaged or contradicts itself.
    """
    tally = Tally()
    warnings: list[str] = []
    parts: dict[str, Part] = {}
    names: list[tuple[str, ...]] = []
    for part, file in files.items():
        content = _load(file)
        categories = _categories(content, file)
        names.append(tuple(categories[i] for i in sorted(categories)))
        found = _read_part(content, categories, file, tally, warnings)
        if len(found.annotations):
            parts[part] = found
    if not parts:
        raise DataError(f"{name_some(map(printable, files.values()))}: no picture is listed")
    return Source(parts, in_order(*names), tuple(warnings), tally)


def _by_part(files: Iterable[Path], name: Any) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        part = part_of(_words(name(file)))
        if part is None:
            continue
        if part in found:
            raise DataError(
                f"{printable(found[part])} and {printable(file)} are both of the {part} part; give "
                "one of the files, or a pair (training, validation)"
            )
        found[part] = file
    return found


def _words(stem: str) -> list[str]:
    return re.split(r"[^A-Za-z0-9]+", stem)


def _looks_right(file: Path) -> bool:
    try:
        return {"images", "annotations"} <= _load(file).keys()
    except DataError:
        return False


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{printable(file)}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{printable(file)} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{printable(file)} is no COCO file; {SHAPE}")
    for name in ("images", "annotations", "categories"):
        rows = content.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{printable(file)} has no list {name!r}; {SHAPE}")
    return content


def _categories(content: dict[str, Any], file: Path) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for row in content["categories"]:
        key, name = _integer(row, "id", file, "a category"), row.get("name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{printable(file)}: category {key} has no name")
        if found.setdefault(key, name) != name:
            raise DataError(
                f"{printable(file)}: category id {key} is {found[key]!r} and {name!r}; give each "
                "its own id"
            )
    return found


def _read_part(
    content: dict[str, Any],
    categories: Mapping[int, str],
    file: Path,
    tally: Tally,
    warnings: list[str],
) -> Part:
    images = _images(content, file, warnings)
    rows = defaultdict(list)
    strays: Counter[int] = Counter()
    for row in content["annotations"]:
        key = _integer(row, "image_id", file, "an annotation")
        if key not in images:
            strays[key] += 1
        else:
            rows[key].append(row)
    if strays:
        warnings.append(
            f"{printable(file)}: {strays.total()} boxes of pictures that are not listed were left "
            f"out: image ids {name_some(map(str, strays))}"
        )
    names = [row["file_name"] for row in images.values()]
    root = find_root(names, file.parent)
    paths = [root / name for name in names]
    annotations = [
        _annotation(rows[key], image, path, categories, file, tally)
        for (key, image), path in zip(images.items(), paths, strict=True)
    ]
    return Part(FileSamples(paths, [()] * len(paths)), annotations)


def _images(content: dict[str, Any], file: Path, warnings: list[str]) -> dict[int, dict[str, Any]]:
    images: dict[int, dict[str, Any]] = {}
    again = []
    for row in content["images"]:
        key, name = _integer(row, "id", file, "a picture"), row.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{printable(file)}: picture {key} has no file_name")
        if key in images and images[key]["file_name"] != name:
            raise DataError(
                f"{printable(file)}: image id {key} is {images[key]['file_name']!r} and {name!r}; "
                "give each picture its own id"
            )
        if key in images:
            again.append(name)
        images.setdefault(key, row)
    if again:
        warnings.append(
            f"{printable(file)}: {len(again)} pictures that are listed twice were taken once: "
            f"{name_some(again)}"
        )
    return images


def _annotation(
    rows: list[dict[str, Any]],
    image: dict[str, Any],
    path: Path,
    categories: Mapping[int, str],
    file: Path,
    tally: Tally,
) -> Annotation:
    boxes, names, crowd, areas = [], [], [], []
    for row in rows:
        category = _integer(row, "category_id", file, "an annotation")
        if category not in categories:
            raise DataError(
                f"{printable(file)}: a box in {image['file_name']} has category id {category}, "
                "which is not listed"
            )
        if is_background(categories[category]):
            tally.add(PASSED_OVER, printable(path))
            continue
        x, y, width, height = _numbers(row.get("bbox"), file, image["file_name"])
        boxes.append((x, y, x + width, y + height))
        names.append(categories[category])
        crowd.append(bool(row.get("iscrowd", 0)))
        area = row.get("area")
        areas.append(float(area) if isinstance(area, (int, float)) else None)
    return Annotation(boxes, names, _size(image) or picture_size(path), crowd, areas)


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


def _integer(row: dict[str, Any], name: str, file: Path, what: str) -> int:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{printable(file)}: {what} has {name}={value!r}, which is no whole number")
    return value


def _numbers(values: Any, file: Path, picture: str) -> list[float]:
    good = isinstance(values, list) and len(values) == 4
    if not good or not all(isinstance(v, (int, float)) for v in values):
        raise DataError(
            f"{printable(file)}: a box in {picture} has bbox={values!r}; it takes x, y, width and "
            "height in pixels"
        )
    return [float(value) for value in values]
